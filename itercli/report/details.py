"""Everything about one run, as data and on a screen (`iter show`)."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import yaml

from itercli.engine.checked import Damaged, tell
from itercli.engine.runs import CONFIG, Run
from itercli.recipe.bounds import check_bounds
from itercli.recipe.errors import RecipeError
from itercli.report.best import best_iteration
from itercli.report.best import sentence as best_sentence
from itercli.report.lineage import lineage, sentence
from itercli.report.numbers import NOTHING, interval, missing, number
from itercli.report.runs import STATE_STYLES, resume_command, runs_option, seconds_since, summary
from itercli.report.stages import group_metrics, seconds_by_kind, stage_views
from itercli.report.tables import by_iteration, clustered, metric_tables
from itercli.report.text import age, clean, spent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

STYLES = {"done": "green", "reused": "green", "running": "cyan", "cut off": "yellow"}
STYLES |= {"failed": "red", "damaged": "red"}
MOST = 8  # metrics and counts in a stage's line


def details(run: Run) -> dict[str, Any]:
    """Content of `itercli.show/1`, see docs/json.md."""
    info = run.info
    short = summary(run)
    config = config_of(run)
    views = stage_views(run, alive=short["state"] == "running")
    models = lineage(info, config, views)
    latest = {m["role"]: m for m in models if m["state"] == "done" and m["path"]}
    metrics = by_iteration(run)
    return {
        "run": {
            **short,
            "error": info.get("error"),
            "overrides": info.get("overrides", []),
            "seed": config.get("seed", 0),
            "roles": info.get("roles", {}),
            "resume": resume_command(run) if short["state"] in ("failed", "interrupted", "died") else None,
        },
        "stages": [v.to_json() for v in views],
        "metrics": metrics,
        "best": best_iteration(info.get("headline"), metrics, models, [v.node for v in views]),
        "groups": group_metrics(views),
        "lineage": models,
        "seconds": seconds_by_kind(views),
        "files": {
            "config": str(run.path / "config.yaml"),
            "events": str(run.path / "events.jsonl"),
            "metrics": str(run.path / "metrics.jsonl"),
            "logs": str(run.path / "logs" / "latest"),
            "models": {role: m["path"] for role, m in latest.items()},
        },
    }


def render(run: Run, content: dict[str, Any], *, groups: bool = False) -> None:
    """Print the content for a person; nothing in it is interpreted as markup."""
    from rich.console import Console

    console = Console(highlight=False)
    _header(console, content["run"])
    console.print()
    console.print(_stages(content["stages"]))
    for n, table in enumerate(metric_tables(run, console.width)):
        if n == 0:
            _title(console, "metrics", "with intervals where the stage computes them")
        else:
            console.print()
        console.print(table)
    if note := clustered(run):
        console.print(note, style="dim", markup=False)
    if content["best"]:
        console.print(f"best: {best_sentence(content['best'])}", markup=False)
    if groups:
        _groups(console, content["groups"])
    elif content["groups"]:
        by = ", ".join(dict.fromkeys(g["by"] for g in content["groups"].values()))
        console.print(f"by {by}: --groups", style="dim", markup=False)
    _title(console, "lineage")
    console.print(_lineage(content["lineage"]))
    if content["seconds"]:
        _title(console, "time", "by kind of stage; stages run beside each other")
        console.print(_times(content["seconds"]))
    _title(console, "files")
    models = {f"model {role}": path for role, path in content["files"]["models"].items()}
    console.print(_pairs({"run": content["run"]["path"], "logs": content["files"]["logs"], **models}))
    _closing(console, run, content["run"])


def config_of(run: Run) -> dict[str, Any]:
    """The resolved recipe of a run; empty where it is missing or damaged."""
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        text = run.config_text()
        check_bounds(text, str(run.path / CONFIG))
        config = yaml.load(text, loader)
    except (yaml.YAMLError, RecipeError, RecursionError, ValueError) as error:
        tell(f"{run.path / CONFIG} can't be read: {str(error).splitlines()[0]}")
        return {}
    except Damaged as error:
        if (run.path / CONFIG).exists():
            tell(f"{error}; options are not shown")
        return {}
    return config if isinstance(config, dict) else {}


def _title(console: Console, title: str, note: str = "") -> None:
    from rich.text import Text

    console.print()
    console.print(Text.assemble((clean(title), "bold"), (f"  {note}" if note else "", "dim")))


def _pairs(pairs: dict[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(name, value if isinstance(value, Text) else Text(clean(str(value))))
    return table


def _header(console: Console, run: dict[str, Any]) -> None:
    from rich.text import Text

    updated = seconds_since(run["updated"])
    state = Text.assemble((run["state"], STATE_STYLES.get(run["state"], "")))
    state.append(f", {run['iterations']['done']} of {run['iterations']['total']} iterations")
    state.append(f", {run['stages']['done']} of {run['stages']['total']} stages")
    pairs: dict[str, Any] = {
        "state": state,
        "recipe": run["recipe"],
        "overrides": shlex.join(o for o in run["overrides"] if not o.startswith("recipe=")) or "none",
        "seed": run["seed"],
    }
    for role, model in run["roles"].items():
        pairs[role] = "\n".join(p for p in (model["path"], f"{model['digest']} ({model['source']})") if p)
    when = f"{run['created']}, last changed {age(updated)} ago" if updated is not None else run["created"]
    pairs["begun"] = f"{when}; {spent(run['seconds'])} of work"
    if run["stopped_early"]:
        pairs["stopped early"] = run["stopped_early"]
    console.print(run["name"], style="bold", markup=False)
    console.print(_pairs(pairs))


def _stages(stages: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold", box=None, pad_edge=False)
    for name in ("stage", "state", "rows", "time", "result"):
        right = name in ("rows", "time")
        table.add_column(
            name, overflow="fold", justify="right" if right else "left", no_wrap=name != "result"
        )
    folder, prompts = "", set()
    for s in stages:
        if s["kind"] == "prompts" and s["key"] in prompts:
            continue  # every iteration reads the same ones
        prompts.add(s["key"])
        scope, _, name = s["node"].partition("/")
        if scope != folder:
            folder = scope
            table.add_row(Text(scope, "bold"))
        state = "reused" if s["state"] == "done" and s["reused"] else s["state"]
        rows = "" if s["rows"] is None else str(s["rows"])
        if s["state"] not in ("done", "damaged") and s["rows"] is not None and s["total"]:
            rows += f"/{s['total']}"
        time = "" if s["seconds"] is None else spent(s["seconds"])
        table.add_row(Text(f"  {name}"), Text(state, STYLES.get(state, "dim")), rows, time, Text(_result(s)))
    return table


def _result(stage: dict[str, Any]) -> str:
    parts = [stage["note"]] if stage["note"] else []
    for name, value in list(stage["metrics"].items())[:MOST]:
        if isinstance(value, dict):
            parts.append(f"{name} {number(value['value'])}{missing(value)}")
        else:
            parts.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    parts += [f"{n} {name}" for name, n in stage["counts"].items() if n][:MOST]
    if len(stage["metrics"]) > MOST or sum(n > 0 for n in stage["counts"].values()) > MOST:
        parts.append("... (--json has all)")
    if stage["reused"]:
        parts.append(f"from {stage['made_by'] or 'a run that is gone'}")
    return clean(", ".join(parts))


def _groups(console: Console, groups: dict[str, dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    for stage, content in groups.items():
        iterations = sorted(content["iterations"])
        tables = [content["iterations"][i] for i in iterations]
        names = dict.fromkeys(m for t in tables for values in t.values() for m in values if m != "prompts")
        for metric in names:
            _title(console, f"{stage}.{metric} by {content['by']}", "a column an iteration")
            table = Table(header_style="bold", box=None, pad_edge=False)
            table.add_column(Text(clean(content["by"])), overflow="fold")
            for column in ("prompts", *("start" if i == 0 else str(i) for i in iterations)):
                table.add_column(column, justify="right")
            for group in sorted({g for t in tables for g in t}):
                values = [t.get(group, {}).get(metric) for t in tables]
                prompts = next(t[group]["prompts"] for t in tables if group in t)
                table.add_row(Text(clean(group)), str(prompts), *map(_group_cell, values))
            console.print(table)


def _group_cell(metric: dict[str, Any] | None) -> str:
    if metric is None or metric["value"] is None:
        return "" if metric is None else NOTHING
    return f"{number(metric['value'])} ({interval(metric)}{missing(metric)})"


def _lineage(models: list[dict[str, Any]]) -> Table:
    pairs = {}
    for m in models:
        digest = m["digest"] or ""
        if not digest.startswith("hub:"):  # a hub model's names its commit
            digest = digest.removeprefix("sha256:")[:12]
        pairs[m["version"]] = sentence(m) + (f"; digest {digest}" if digest else "")
    return _pairs(pairs)


def _times(seconds: dict[str, dict[str, float]]) -> Table:
    pairs = {}
    for kind, s in seconds.items():
        parts = [spent(s["spent"])] if s["spent"] or not s["reused"] else []
        pairs[kind] = ", ".join(parts + ([f"reuse saved {spent(s['reused'])}"] if s["reused"] else []))
    return _pairs(pairs)


def _closing(console: Console, run: Run, info: dict[str, Any]) -> None:
    """What went wrong and how to go on; where to look next."""
    from rich.text import Text

    console.print()
    if info["state"] == "failed" and info["error"]:
        console.print(Text.assemble(("error: ", "red"), clean(info["error"])))
    if info["state"] == "died":
        console.print(
            "its process is gone without a word (killed?); everything finished is kept", style="red"
        )
    if info["resume"]:
        console.print(f"go on with: {info['resume']}", markup=False, soft_wrap=True)
    console.print(
        f"look at completions: iter samples {run.name}{runs_option(run)}", markup=False, soft_wrap=True
    )
