"""Differences to the first run, prompt by prompt, on a screen: `iter compare`'s tests and their limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from itercli.report.compare_layout import groups, listing, row, table, title
from itercli.report.numbers import NOTHING, decimals
from itercli.report.text import clean

if TYPE_CHECKING:
    from rich.console import Console

TESTS = {"mcnemar": "McNemar", "sign_flip": "sign flip"}
MANY = 5  # tests from which on one is likely to be wrong
Content = dict[str, Any]


def show_paired(console: Console, content: Content, tags: dict[str, str], metrics: list[str]) -> None:
    """Differences, tests, and what can't be compared.

    Args:
        tags: Run -> its tag; the first one is the baseline.
        metrics: Which of the metrics to show.
    """
    pairs = [pair for pair in content["paired"] if pair["metric"] in metrics]
    at = "iteration" if isinstance(content["at"], int) else f"{content['at']} iteration"
    of = f"{metrics[0]}, " if len(metrics) == 1 else ""
    where = _iterations({tags[run["name"]]: run["iteration"] for run in content["runs"]})
    title(console, f"minus {tags[content['baseline']]}, paired by prompt", f"{of}{at}: {where}")
    tested = [pair for pair in pairs if pair["p"] is not None]
    several = any(pair["p"] != pair["p_holm"] for pair in tested)
    columns = ["difference", "n", "up", "down", "p", *(["Holm"] if several else []), "test"]
    right = ("n", "up", "down")
    if len(tags) == 2 and tested:
        made = table("metric", *columns, right=right, fold=("metric",))
        for pair in tested:
            row(made, pair["metric"], *_cells(pair, several))
        console.print(made)
    elif tested:
        rows: dict[str, list[tuple[str, ...]]] = {}
        for pair in tested:
            rows.setdefault(pair["metric"], []).append((tags[pair["run"]], *_cells(pair, several)))
        groups(console, ["", *columns], rows, right)
    for note in _notes(pairs, tags, several, content["at"]):
        console.print(note, style="dim", markup=False)


def _cells(pair: Content, several: bool) -> tuple[str, ...]:
    counts = (str(pair[key]) for key in ("prompts", "up", "down"))
    ps = [_p(pair["p"]), *([_p(pair["p_holm"])] if several else [])]
    return (difference(pair["difference"]), *counts, *ps, TESTS[pair["test"]])


def _iterations(of: dict[str, int | None]) -> str:
    """`3`, or `3, but 6 of C, D` where runs have got to different ones."""
    runs: dict[int | None, list[str]] = {}
    for tag, iteration in of.items():
        runs.setdefault(iteration, []).append(tag)
    most, *others = sorted(runs, key=lambda i: -len(runs[i]))
    named = {i: NOTHING if i is None else str(i or "start") for i in runs}
    return ", but ".join([named[most], *(f"{named[i]} of {listing(runs[i], 10)}" for i in others)])


def difference(found: Content) -> str:
    """`+0.052 (.010 to .094)`, all in the places of the largest."""
    places = decimals(max(abs(found[end]) for end in ("value", "low", "high")))
    value, low, high = (f"{found[end]:+.{places}f}" for end in ("value", "low", "high"))
    low, high = (end.removeprefix("+").replace("0.", ".", abs(float(end)) < 1) for end in (low, high))
    return f"{value} ({low} to {high})"


def _p(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}"


def _notes(pairs: list[Content], tags: dict[str, str], several: bool, at: int | str) -> Iterator[str]:
    for pair in pairs:
        if (first := pair["first_sample"]) is not None and len(tags) <= 3:
            yield (
                f"{clean(_what(pair, tags))}, McNemar on the first sample of each prompt: "
                f"{first['up']} up, {first['down']} down, p {_p(first['p'])}"
            )
    by_number: dict[str, list[str]] = {}
    for pair in pairs:
        if pair.get("clusters"):
            text = f"interval and test over {pair['clusters']} clusters of {pair['prompts']} prompts"
            by_number.setdefault(text, []).append(_what(pair, tags))
    for text, named in by_number.items():
        yield f"{listing(named)}: {text}"
    for why, named in _reasons(pairs, tags).items():
        yield f"{listing(named)}: {why}"
    tests = sum(pair["p"] is not None for pair in pairs)
    if several:
        yield "Holm: p corrected for the number of runs, metric by metric"
    if tests >= MANY:
        yield f"{tests} tests: by chance alone about {tests * 0.05:.1f} of them fall below 0.05"
    if at == "best":
        yield "best: chosen by the same prompts, so both sides look better than they are"


def _what(pair: Content, tags: dict[str, str]) -> str:
    return str(pair["metric"]) + (f" of {tags[pair['run']]}" if len(tags) > 2 else "")


def _reasons(pairs: list[Content], tags: dict[str, str]) -> dict[str, list[str]]:
    """What was not paired, or only in part, by the reason."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        left = pair["left_out"] or {}
        parts = {
            "only here": left.get("only_run", 0),
            "only in the first": left.get("only_baseline", 0),
            "same id, other content": left.get("other_content", 0),
            "without a value": left.get("no_value", 0),
        }
        gone = ", ".join(f"{n} {what}" for what, n in parts.items() if n)
        reasons = (
            f"not paired: {clean(pair['reason'])}" if pair["reason"] else "",
            f"prompts left out: {gone}" if gone else "",
            f"measured in another way: {listing(pair['measured'])}" if pair["measured"] else "",
        )
        for reason in filter(None, reasons):
            found.setdefault(reason, []).append(_what(pair, tags))
    return found
