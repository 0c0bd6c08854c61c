"""Metrics by iteration as a table, from a run's metrics.jsonl."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from itercli.engine.runs import Run
from itercli.report.numbers import NOTHING, interval, missing, number
from itercli.report.samples import default_rows

if TYPE_CHECKING:
    from rich.table import Table

    from itercli.engine.runner import Outcome


def by_iteration(run: Run) -> dict[str, dict[int, Any]]:
    """Evaluation metrics: ``stage.metric`` -> iteration (0 is before the loop) -> value.

    Values are mappings with value, low and high where the stage gave an interval.
    """
    kinds = {i: place["kind"] for i, place in run.info.get("nodes", {}).items()}
    table: dict[str, dict[int, Any]] = {}
    for line in run.metrics():
        if kinds.get(line["node"]) != "metrics":  # a training's loss is no evaluation
            continue
        for name, value in line["metrics"].items():
            table.setdefault(f"{line['stage']}.{name}", {})[line["iteration"]] = value
    return table


def metric_table(run: Run, title: str | None = None) -> Table | None:
    """Rich table of evaluation metrics, one row per iteration; None without any."""
    from rich.table import Table

    data = by_iteration(run)
    if not data:
        return None
    headline = run.info.get("headline")
    names = sorted(data, key=lambda n: (n != headline, list(data).index(n)))
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.add_column("iter", justify="right", no_wrap=True)
    for name in names:
        table.add_column(name.replace(".", "\n"), no_wrap=True)
    for iteration in sorted({i for values in data.values() for i in values}):
        cells = [_cell(data[name].get(iteration)) for name in names]
        table.add_row("start" if iteration == 0 else str(iteration), *cells)
    return table


def closing(run: Run, outcome: Outcome) -> None:
    """What `iter run` ends with: the table, and where to look next."""
    from rich.console import Console

    console = Console(highlight=False)
    table = metric_table(run)
    if table is not None:
        console.print()
        console.print(table)
        console.print()
    if outcome.stopped_early:
        console.print(outcome.stopped_early)
    done = (
        "finished already, nothing to do"
        if not outcome.ran
        else f"{outcome.ran} stages run, {outcome.reused} reused"
    )
    console.print(f"{run.name}: {done}", markup=False)
    console.print(f"  iter show {run.name}", markup=False)
    console.print(f"  iter samples {run.name}{_worth_seeing(run)}", markup=False)


def _worth_seeing(run: Run) -> str:
    """Which rows to suggest: the last iteration's, only the failed ones where there are any."""
    iteration = run.info.get("iterations", 1)
    try:
        failed = any(row.get("passed") is False for row in default_rows(run, iteration))
    except LookupError:
        return ""
    return f" --iteration {iteration}" + (" --failed" if failed else "")


def _cell(value: Any) -> str:
    if not isinstance(value, dict):
        return "" if value is None else f"{value:.4g}"
    if value["value"] is None:
        return f"[dim]{NOTHING}{missing(value)}[/]"
    return f"{number(value['value'])} [dim]({interval(value)}{missing(value)})[/]"
