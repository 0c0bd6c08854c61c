"""How the points of a sweep fare, as data and on a screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itercli.report.numbers import number
from itercli.report.runs import STATE_STYLES, summary
from itercli.report.text import clean, spent
from itercli.sweep.record import Sweep, SweepPoint

WAITING = "waiting"


def sweep_json(sweep: Sweep, codes: Mapping[str, int] | None = None) -> dict[str, Any]:
    """An entry of `itercli.sweeps/1`, see docs/json.md.

    Args:
        codes: Run -> exit code of the attempt that has just ended.
    """
    return {
        "name": sweep.name,
        "recipe": sweep.recipe,
        "overrides": sweep.overrides,
        "created": sweep.created,
        "updated": sweep.updated,
        "points": [_point(sweep, p, (codes or {}).get(p.run, 0)) for p in sweep.points],
    }


def _point(sweep: Sweep, point: SweepPoint, code: int) -> dict[str, Any]:
    run = sweep.run(point)
    known = summary(run) if run.info else {}
    state, error = known.get("state", WAITING), known.get("error")
    if state in (WAITING, "finished") and 0 < code < 128:
        state, error = "failed", error or f"its process ended with exit code {code}"
    return {
        "run": point.run,
        "changed": point.changed,
        "state": state,
        "iterations": known.get("iterations"),
        "headline": known.get("headline"),
        "seconds": known.get("seconds", 0.0),
        "error": error if state == "failed" else None,
    }


def render(content: dict[str, Any]) -> None:
    """Print a sweep's points for a person; nothing in it is interpreted as markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    points = content["points"]
    keys = list(dict.fromkeys(key for p in points for key in p["changed"]))
    metrics = {p["headline"]["metric"] for p in points if p["headline"]}
    one = metrics.pop() if len(metrics) == 1 else ""
    table = Table(header_style="bold", box=None, pad_edge=False)
    for title in (*short_names(keys), "run", "state"):
        table.add_column(title, overflow="fold")
    table.add_column("iter", justify="right")
    table.add_column(Text(one.replace(".", "\n") or "headline"), overflow="fold")
    table.add_column("time", justify="right")
    for p in points:
        iterations = p["iterations"]
        table.add_row(
            *(Text(clean(p["changed"].get(key, ""))) for key in keys),
            Text(p["run"]),
            Text(p["state"], STATE_STYLES.get(p["state"], "dim")),
            f"{iterations['done']}/{iterations['total']}" if iterations else "",
            Text(_headline(p["headline"], named=bool(one))),
            spent(p["seconds"]) if p["seconds"] else "",
        )
    console.print(table)
    for p in points:
        if p["error"]:
            console.print(Text.assemble((p["run"], "red"), f": {clean(p['error'])}"))


def render_plan(points: list[dict[str, Any]]) -> None:
    """Print what each point would reuse, share and run."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    keys = list(dict.fromkeys(key for p in points for key in p["changed"]))
    counts = {"stages": "stages", "reuse": "reuse", "shared": "shared", "run": "todo"}
    table = Table(header_style="bold", box=None, pad_edge=False)
    for title in (*short_names(keys), "name"):
        table.add_column(title, overflow="fold")
    for title in counts:
        table.add_column(title, justify="right")
    for p in points:
        changed = (Text(clean(p["changed"].get(key, ""))) for key in keys)
        table.add_row(*changed, Text(p["run"]), *(str(p[name]) for name in counts.values()))
    Console(highlight=False).print(table)


def short_names(keys: list[str]) -> list[str]:
    """The last part of each key, with as many before it as tell it from the others."""
    names = []
    for key in keys:
        parts = key.split(".")
        n = 1
        while n < len(parts) and any(k != key and k.split(".")[-n:] == parts[-n:] for k in keys):
            n += 1
        names.append(".".join(parts[-n:]))
    return names


def _headline(headline: dict[str, Any] | None, *, named: bool) -> str:
    if headline is None:
        return ""
    first, last = headline["first"], headline["last"]
    text = number(first["value"])
    if first["iteration"] != last["iteration"]:
        text += f" -> {number(last['value'])}"
    return text if named else f"{headline['metric']} {text}"
