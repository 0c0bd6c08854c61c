"""Runs beside each other, as data: the content of `itercli.compare/1`, see docs/json.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from itercli.engine.runs import Run
from itercli.report.compare_config import differences
from itercli.report.compare_paired import holm, paired, verdicts
from itercli.report.compare_side import At, Side
from itercli.report.compare_values import NodeValues
from itercli.report.tables import metric_named

NOT_PAIRED = {"difference": None, "up": None, "down": None, "equal": None, "test": None, "p": None}
NOT_PAIRED |= {"p_holm": None, "prompts": None, "clusters": None, "first_sample": None, "left_out": None}


def compare(
    runs: Sequence[Run],
    *,
    wanted: Sequence[str] = (),
    at: At = "last",
    swept: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """Compare runs with the first one.

    Args:
        wanted: Metrics; all that the first and another run have unless given.
        at: Which iteration is paired: a number, or each run's `last` or `best` by the headline metric.
        swept: For each run what its sweep varied.

    Raises:
        LookupError: A metric that no run has, or an iteration that the first run does not have.
    """
    sides = [Side(run, label) for run, label in zip(runs, _labels(runs), strict=True)]
    base, others = sides[0], sides[1:]
    everything = list(dict.fromkeys(name for side in sides for name in side.metrics))
    common = [n for n in base.metrics if any(n in side.metrics for side in others)]
    headline = base.info.get("headline")
    shown = [metric_named(name, everything) for name in wanted]
    shown = shown or sorted(common, key=lambda n: (n != headline, common.index(n)))
    if headline not in shown:
        headline = shown[0] if shown else None
    iterations = {side.label: side.at(headline, at) if headline else None for side in sides}
    if headline and iterations[base.label] is None:
        there = ", ".join(map(str, base.known(headline))) or "none"
        raise LookupError(
            f"{base.label} has no value of {headline} at iteration {at}; it has: {there}. "
            "Name another iteration, or another run to compare with by --to"
        )
    pairs = [
        _pair(base, side, metric, iterations[base.label], iterations[side.label])
        for metric in shown
        for side in others
        if metric in base.metrics or metric in side.metrics
    ]
    _correct(pairs)
    varied = swept or [{} for _ in sides]
    return {
        "baseline": base.label,
        "headline": headline,
        "at": at,
        "runs": [s.to_json(headline, iterations[s.label], v) for s, v in zip(sides, varied, strict=True)],
        "config": _differences(sides),
        "metrics": {name: {s.label: s.metrics[name] for s in sides if name in s.metrics} for name in shown},
        "not_shared": {
            name: [s.label for s in sides if name in s.metrics]
            for name in everything
            if not all(name in s.metrics for s in sides)
        },
        "paired": pairs,
        "tests": sum(pair["p"] is not None for pair in pairs),
    }


def _labels(runs: Sequence[Run]) -> list[str]:
    """Names, or paths where runs of different folders have the same name."""
    names = [run.name for run in runs]
    return [str(run.path) if names.count(run.name) > 1 else run.name for run in runs]


def _differences(sides: Sequence[Side]) -> list[dict[str, Any]]:
    """Options, and start models that have one path and other content."""
    found = differences({side.label: side.config for side in sides})
    for role in dict.fromkeys(r for side in sides for r in side.info.get("roles", {})):
        digests = {s.label: s.info["roles"][role]["digest"] for s in sides if role in s.info.get("roles", {})}
        named = (f"roles.{role}", f"roles.{role}.path", f"roles.{role}.revision")
        known = any(key in named for entry in found for key in (entry["key"], *entry["also"]))
        if len(set(digests.values())) > 1 and not known:
            found.append({"key": f"roles.{role} (content)", "values": digests, "also": []})
    return found


def _pair(base: Side, side: Side, metric: str, before: int | None, now: int | None) -> dict[str, Any]:
    """One metric of one run beside the baseline's, prompt by prompt."""
    where = {"metric": metric, "run": side.label, "iteration": now, "baseline_iteration": before}
    lacking = [s.label for s, i in ((base, before), (side, now)) if i not in s.known(metric)]
    if before is None or now is None or lacking:
        reason = f"no value in {' and '.join(lacking)}"
        return {**where, **NOT_PAIRED, "reason": reason, "measured": []}
    theirs, ours = base.measured(metric, before), side.measured(metric, now)
    measured = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    return {**where, **_by_prompt(base, side, metric, before, now), "measured": measured}


def _by_prompt(base: Side, side: Side, metric: str, before: int, now: int) -> dict[str, Any]:
    theirs, ours = base.prompt_values(metric, before), side.prompt_values(metric, now)
    if theirs is None or ours is None:
        return {**NOT_PAIRED, "reason": "its rows hold no value for each prompt"}
    other = _other_content(base.node_values(metric, before), side.node_values(metric, now))
    left_out = {
        "only_run": len(ours.values.keys() - theirs.values.keys()),
        "only_baseline": len(theirs.values.keys() - ours.values.keys()),
        "other_content": len(other & ours.values.keys() & theirs.values.keys()),
        "no_value": 0,
    }
    shared = (ours.values.keys() & theirs.values.keys()) - other
    valued = {p for p in shared if ours.values[p] is not None and theirs.values[p] is not None}
    left_out["no_value"] = len(shared) - len(valued)
    if not valued:
        return {**NOT_PAIRED, "left_out": left_out, "reason": "no prompt in common"}
    own, other_side = ({p: v for p in valued if (v := s.values[p]) is not None} for s in (ours, theirs))
    result = paired(own, other_side, clusters=base.node_values(metric, before).clusters)
    first = None
    if ours.first or theirs.first:
        known = ({p: v for p, v in s.verdicts.items() if p in valued} for s in (ours, theirs))
        first = asdict(verdicts(*known))
    return {**result.to_json(), "first_sample": first, "left_out": left_out, "reason": None}


def _other_content(one: NodeValues, other: NodeValues) -> set[str]:
    """Ids that stand for one prompt here and for another there."""
    if one.prompt_keys == other.prompt_keys:
        return set()
    return {i for i, content in one.prompts.items() if other.prompts.get(i, content) != content}


def _correct(pairs: Sequence[dict[str, Any]]) -> None:
    """Set Holm's p over the runs that are compared by one metric."""
    for metric in {pair["metric"] for pair in pairs}:
        tested = [p for p in pairs if p["metric"] == metric and p["p"] is not None]
        for pair, corrected in zip(tested, holm([p["p"] for p in tested]), strict=True):
            pair["p_holm"] = corrected
