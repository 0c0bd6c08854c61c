"""Metrics by iteration as a table, from a run's metrics.jsonl."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itercli.engine.runs import Run
from itercli.recipe.errors import nearest
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


def metric_named(name: str, known: Iterable[str]) -> str:
    """The metric that a person means: ``stage.metric``, or ``metric`` alone where one stage has it.

    Raises:
        LookupError: None, or several; the message lists what there is.
    """
    known = list(dict.fromkeys(known))
    hits = [k for k in known if k == name] or [k for k in known if k.partition(".")[2] == name]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise LookupError(f"several stages have a metric {name!r}: {', '.join(hits)}")
    near = nearest(name, known) or nearest(name, [k.partition(".")[2] for k in known])
    hint = f" Did you mean {near}?" if near else ""
    raise LookupError(f"no metric {name!r}.{hint} There are: {', '.join(known) or 'none yet'}")


def metric_tables(run: Run, width: int) -> list[Table]:
    """Rich tables of evaluation metrics, one row per iteration, the headline first.

    Args:
        width: Of the screen, in characters: a table has as many metrics as fit, since in
            narrower columns no number could be read.
    """
    from rich.table import Table
    from rich.text import Text

    data = by_iteration(run)
    headline = run.info.get("headline")
    iterations = sorted({i for values in data.values() for i in values})
    labels = ["start" if i == 0 else str(i) for i in iterations]
    blocks: list[list[tuple[str, list[Text]]]] = []
    room = 0
    for name in sorted(data, key=lambda n: (n != headline, list(data).index(n))):
        title = name.replace(".", "\n")
        cells = [Text.from_markup(_cell(data[name].get(i))) for i in iterations]
        need = 2 + max(text.cell_len for text in [*cells, *map(Text, title.split("\n"))])
        if not blocks or need > room:
            blocks.append([])
            room = width - len("start")
        blocks[-1].append((title, cells))
        room -= need
    tables = []
    for block in blocks:
        table = Table(header_style="bold", box=None, pad_edge=False)
        table.add_column("iter", justify="right", no_wrap=True)
        for title, _ in block:
            table.add_column(title, no_wrap=True)
        for n, label in enumerate(labels):
            table.add_row(label, *(cells[n] for _, cells in block))
        tables.append(table)
    return tables


def cluster_notes(series: Iterable[tuple[str, Any]]) -> list[str]:
    """What intervals over clusters are over, for each stage: `evaluate_unseen: 9 clusters of 100 prompts`.

    Args:
        series: ``stage.metric`` and one of its values.
    """
    found: dict[str, str] = {}
    for name, value in series:
        if isinstance(value, dict) and value.get("clusters"):
            text = f"{value['clusters']} clusters of {value['prompts']} prompts"
            found.setdefault(name.partition(".")[0], text)
    return [f"{stage}: {text}" for stage, text in found.items()]


def clustered(run: Run) -> str:
    """A line that says which intervals are over clusters; empty where none is."""
    series = ((name, value) for name, values in by_iteration(run).items() for value in values.values())
    notes = cluster_notes(series)
    return f"intervals over clusters: {'; '.join(notes)}" if notes else ""


def ceilings(run: Run) -> list[str]:
    """What each `ceiling` stage found, as a sentence."""
    uses = {i: place.get("uses") for i, place in run.info.get("nodes", {}).items()}
    found: dict[str, str] = {}
    for line in run.metrics():
        if uses.get(line["node"]) == "ceiling":
            m = line["metrics"]
            found[line["node"]] = (
                f"{line['stage']}: references that pass: {m['passing']} of {m['references']}; "
                f"the maximum reachable pass@1 is {m['pass@1']:.3f}"
            )
    return list(found.values())


def closing(run: Run, outcome: Outcome) -> None:
    """What `iter run` ends with: the table, and where to look next."""
    from rich.console import Console

    console = Console(highlight=False)
    for table in metric_tables(run, console.width):
        console.print()
        console.print(table)
    if note := clustered(run):
        console.print(note, style="dim", markup=False)
    console.print()
    for line in ceilings(run):
        console.print(line, markup=False)
    if outcome.stopped_early:
        console.print(outcome.stopped_early)
    done = (
        "finished already, nothing to do"
        if not outcome.ran
        else f"{outcome.ran} stages run, {outcome.reused} reused"
    )
    console.print(f"{run.name}: {done}", markup=False)
    command = launcher()
    console.print(f"  {command} show {run.name}", markup=False)
    console.print(f"  {command} samples {run.name}{_worth_seeing(run)}", markup=False)


def launcher() -> str:
    """The `iter` command as it can be typed in this shell: by its path where it isn't on the PATH."""
    called = Path(sys.argv[0])
    if called.name != "iter" or shutil.which("iter"):
        return "iter"
    return shlex.quote(os.path.relpath(called))


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
