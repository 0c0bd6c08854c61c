"""Runs beside each other on a screen (`iter compare`).

Few runs have a column each; many, and the points of a sweep, a line each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from itercli.report.compare_cost import SUMS
from itercli.report.compare_layout import groups, listing, option, row, table, tags, title
from itercli.report.compare_paired_view import show_paired
from itercli.report.numbers import NOTHING, interval, missing, number
from itercli.report.runs import STATE_STYLES
from itercli.report.text import clean, spent

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

COLUMNS = 3  # runs that have a column each; more have a line each
KEYS = 3  # options that are shown in those lines
COSTS = ("stages' time", "tokens drawn", "rows drawn", "steps", "tokens trained", "examples")
IN_COLUMNS = ("rows drawn", "steps", "examples")  # for these a line has no room
Content = dict[str, Any]
Tags = dict[str, str]  # run -> letter


def render(console: Console, content: Content) -> None:
    """Print the content of `itercli.compare/1`; nothing in it is interpreted as markup."""
    runs = content["runs"]
    letters = dict(zip((run["name"] for run in runs), tags(len(runs)), strict=True))
    lines = len(runs) > COLUMNS or any(run["swept"] for run in runs)
    metrics = list(content["metrics"])
    console.print(_legend(runs, letters))
    if lines:
        console.print()
        for part in _lines(content, letters):
            console.print(part)
    if not content["config"]:
        console.print("no option differs", style="dim")
    elif not lines:
        title(console, "differences", f"options that are not the same; {NOTHING}: not set")
        _config(console, content["config"], letters)
    if metrics and not lines:
        title(console, "metrics", "with intervals where the stage computes them")
        cells = {name: list(_by_iteration(of, letters)) for name, of in content["metrics"].items()}
        groups(console, ["", *letters.values()], cells, right=())
    if partly := [
        f"{name} ({', '.join(letters[r] for r in of)})" for name, of in content["not_shared"].items()
    ]:
        console.print(f"not of all runs: {listing(partly)}", style="dim", markup=False)
    if not metrics:
        console.print("no metric in common; there are only options and cost to compare")
    elif content["paired"]:
        show_paired(console, content, letters, [content["headline"]] if lines else metrics)
    title(console, "cost", "finished stages; + what was reused from other runs")
    console.print(_cost(runs, letters, lines=lines))


def _legend(runs: list[Content], letters: Tags) -> Table:
    from rich.text import Text

    made = table("", "run", "recipe", "state", "iter", "seed", fold=("run", "recipe"))
    for run in runs:
        state = Text(run["state"], STATE_STYLES.get(run["state"], ""))
        progress = f"{run['iterations']['done']}/{run['iterations']['total']}"
        row(made, letters[run["name"]], run["name"], run["recipe"], state, progress, run["seed"])
    return made


def _lines(content: Content, letters: Tags) -> Iterator[RenderableType]:
    """A line each: what was changed, and the headline metric."""
    from rich.text import Text

    runs = content["runs"]
    swept = dict.fromkeys(key for run in runs for key in run["swept"])
    changed = {key: _given(key, content) for key in swept}
    # Options that all runs have say more in a line than whole stages do.
    config = sorted(content["config"], key=lambda entry: len(entry["values"]) < len(runs))
    for entry in () if swept else config[:KEYS]:
        changed[entry["key"]] = {run: option(v) for run, v in entry["values"].items()}
    short = _short(list(changed))
    made = table("", *short, "first", "last", "best", fold=short)
    for run in runs:
        ends = run["headline"] or {}
        values = [of.get(run["name"], NOTHING) for of in changed.values()]
        metrics = [_ending(ends.get(end)) for end in ("first", "last", "best")]
        row(made, letters[run["name"]], *values, *metrics)
    yield made
    if not swept and len(config) > KEYS:
        yield Text(f"{len(config) - KEYS} more options differ: --json has all", "dim")
    if known := [run for run in runs if run["headline"]]:
        top = max(known, key=lambda run: run["headline"]["last"]["value"])
        value = number(top["headline"]["last"]["value"])
        yield Text(f"{clean(content['headline'])}; highest at last: {letters[top['name']]}, {value}", "dim")
    for run in runs:
        if run["error"]:
            yield Text.assemble((letters[run["name"]], "red"), f": {clean(run['error'])}")


def _given(key: str, content: Content) -> dict[str, str]:
    """Run -> value of an option that a sweep varied; of a run from elsewhere, what its recipe says."""
    entry = next((e for e in content["config"] if key in (e["key"], *e["also"])), None)
    given = {run: option(value) for run, value in entry["values"].items()} if entry else {}
    return given | {run["name"]: run["swept"][key] for run in content["runs"] if key in run["swept"]}


def _ending(end: Content | None) -> str:
    return NOTHING if end is None else f"{number(end['value'])} ({end['iteration'] or 'start'})"


def _short(keys: Sequence[str]) -> list[str]:
    """Keys by their last names where that tells them apart."""
    last = [key.rpartition(".")[2] for key in keys]
    return [name if last.count(name) == 1 else key for name, key in zip(last, keys, strict=True)]


def _config(console: Console, config: list[Content], letters: Tags) -> None:
    """Options with their values; stages and other mappings that only some runs have, by name."""
    made = table("key", *letters.values(), fold=("key", *letters.values()))
    only: dict[tuple[str, ...], list[str]] = {}
    for entry in config:
        values = entry["values"]
        if len(values) < len(letters) and any(isinstance(value, dict) for value in values.values()):
            only.setdefault(tuple(values), []).append(entry["key"])
            continue
        more = f" (+{len(entry['also'])})" if entry["also"] else ""
        row(made, entry["key"] + more, *(option(values[r]) if r in values else NOTHING for r in letters))
    if made.row_count:
        console.print(made)
    for runs, keys in only.items():
        text = f"only in {', '.join(letters[run] for run in runs)}: {listing(keys, len(keys))}"
        console.print(text, markup=False)


def _by_iteration(of: dict[str, dict[int, Any]], letters: Tags) -> Iterator[list[str]]:
    """Rows of one metric: iteration, and its value in each run."""
    for i in sorted({i for values in of.values() for i in values}):
        yield [f"  {i or 'start'}", *(_cell(of.get(run, {}).get(i)) for run in letters)]


def _cell(metric: Any) -> str:
    if not isinstance(metric, dict):
        return number(metric)
    if metric["value"] is None:
        return NOTHING + missing(metric)
    return f"{number(metric['value'])} ({interval(metric)}{missing(metric)})"


def _cost(runs: list[Content], letters: Tags, *, lines: bool) -> Table:
    """A column for each run, or a line with the most important."""
    parts = {"run's time": [spent(run["seconds"]) for run in runs]}
    for name, shown in zip(SUMS, COSTS, strict=True):
        if any(sum(run["cost"][name].values()) for run in runs):
            parts[shown] = [_spent(name, run["cost"][name]) for run in runs]
    peaks = [run["cost"]["peak_memory"] for run in runs]
    if any(peaks):
        parts["peak memory"] = [f"{peak / 2**30:.2f} GiB" if peak else NOTHING for peak in peaks]
    if not lines:
        made = table("", *letters.values())
        for name, cells in parts.items():
            row(made, name, *cells)
        return made
    parts = {name: cells for name, cells in parts.items() if name not in IN_COLUMNS}
    made = table("", *parts)
    for letter, *cells in zip(letters.values(), *parts.values(), strict=True):
        row(made, letter, *cells)
    return made


def _spent(name: str, of: Content) -> str:
    shown = {slot: spent(n) if name == "seconds" else f"{n:,}" for slot, n in of.items()}
    return shown["spent"] + (f" + {shown['reused']}" if of["reused"] else "")
