"""A study for people and programs: its trials, the best of them, and how to go on."""

from __future__ import annotations

import shlex
from pathlib import Path
from statistics import stdev
from typing import Any

from itercli.engine.runs import Run
from itercli.report.numbers import number
from itercli.report.runs import runs_option
from itercli.report.text import spent
from itercli.tune.space import overrides_of, point
from itercli.tune.study import Study

STYLES = {"complete": "green", "running": "cyan", "cut off": "yellow", "pruned": "dim", "failed": "red"}


def content(study: Study, root: Path) -> dict[str, Any]:
    """Content of `itercli.tune/1`, see docs/json.md."""
    about = study.about
    trials = [_trial(study, frozen, root) for frozen in study.trials()]
    better = max if study.spec.direction == "maximize" else min
    complete = [t for t in trials if t["state"] == "complete"]
    best = better(complete, key=lambda t: t["value"]) if complete else None
    return {
        "study": {
            "name": study.name,
            "path": str(study.path),
            "recipe": about.get("recipe"),
            **study.spec.model_dump(
                mode="json",
                include={"metric", "direction", "trials", "seeds", "sampler", "pruner", "startup"},
            ),
            "space": {
                key: list(knob.choices) or knob.model_dump(mode="json", exclude={"choices"})
                for key, knob in study.spec.space.items()
            },
            "states": {s: n for s in STYLES if (n := sum(t["state"] == s for t in trials))},
            "best": best and _best(about, best, root),
            "resume": about.get("command") if _unfinished(study, trials) else None,
        },
        "trials": trials,
    }


def _trial(study: Study, frozen: Any, root: Path) -> dict[str, Any]:
    from optuna.trial import TrialState

    words = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    state = words.get(frozen.state) or ("running" if study.held(frozen.number) else "cut off")
    by_seed = {int(i): values for i, values in frozen.user_attrs.get("values", {}).items()}
    last = by_seed[max(by_seed)] if by_seed else []
    runs = frozen.user_attrs.get("runs", [])
    reached = [frozen.intermediate_values[i] for i in sorted(frozen.intermediate_values)]
    return {
        "trial": frozen.number + 1,
        "state": state,
        "params": point(frozen.params, study.spec.space),
        "value": frozen.value if state == "complete" else (reached[-1] if reached else None),
        "spread": stdev(last) if len(last) > 1 else None,
        "iterations": {"done": max(by_seed, default=0), "total": frozen.user_attrs.get("iterations")},
        "values": {str(i): by_seed[i] for i in sorted(by_seed)},
        "runs": runs,
        "seconds": round(sum(Run(root / name).info.get("seconds", 0) for name in runs), 1),
        "error": frozen.user_attrs.get("error"),
    }


def _unfinished(study: Study, trials: list[dict[str, Any]]) -> bool:
    ended = [t for t in trials if t["state"] not in ("running", "cut off")]
    return len(ended) < study.spec.trials


def _best(about: dict[str, Any], trial: dict[str, Any], root: Path) -> dict[str, Any]:
    """The best trial, with the line that runs its parameters."""
    folders = [part for folder in about.get("recipes", []) for part in ("--recipes", folder)]
    line = ["iter", "run", *about.get("fixed", []), *overrides_of(trial["params"]), *folders]
    command = shlex.join(line) + runs_option(Run(root / "any"))
    return {"trial": trial["trial"], "value": trial["value"], "command": command}


def render(study: Study, shown: dict[str, Any]) -> None:
    """Print the closing table, the best trial and the commands that come next."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    head, trials = shown["study"], shown["trials"]
    keys = list(head["space"])
    table = Table(header_style="bold", box=None, pad_edge=False)
    for name in ("trial", "state", "iter", head["metric"].replace(".", "\n")):
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for key in keys:
        table.add_column(Text(key.replace(".", "\n")), overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("runs", overflow="fold")
    best = head["best"]["trial"] if head["best"] else None
    for t in trials:
        params = dict(o.split("=", 1) for o in overrides_of(t["params"]))
        done = t["iterations"]
        table.add_row(
            f"{'*' if t['trial'] == best else ''}{t['trial']}",
            Text(t["state"], STYLES[t["state"]]),
            f"{done['done']}/{done['total'] or '?'}",
            number(t["value"])
            + (f" ± {number(t['spread'], like=t['value'])}" if t["spread"] is not None else ""),
            *(Text(params.get(key, "")) for key in keys),
            spent(t["seconds"]),
            Text("\n".join(t["runs"])),
        )
    console.print(table)
    console.print()
    for t in trials:
        if t["error"]:
            console.print(Text.assemble((f"trial {t['trial']}", "red"), f": {t['error']}"))
    states = ", ".join(f"{n} {state}" for state, n in head["states"].items())
    console.print(f"{study.name}: {len(trials)} of {head['trials']} trials ({states})", markup=False)
    if head["best"]:
        console.print(f"best: trial {best}, {head['metric']} {number(head['best']['value'])}", markup=False)
        console.print(f"  {head['best']['command']}", markup=False, soft_wrap=True)


def _value(trial: dict[str, Any]) -> str:
    """`0.412 ± 0.020`: the mean, and the standard deviation over the seeds."""
    if trial["spread"] is None:
        return number(trial["value"])
    return f"{number(trial['value'])} ± {number(trial['spread'], like=trial['value'])}"
