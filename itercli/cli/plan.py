"""Show every stage of every iteration: run, reuse or resume, and the reason."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

from itercli.cli.common import add_deep_argument, add_recipe_arguments, emit, fail_recipe, load
from itercli.recipe.errors import RecipeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_recipe_arguments(parser)
    parser.add_argument("-m", "--multirun", action="store_true", help="a run for every combination of values")
    parser.add_argument("--name", help="compare with this run instead of the one the recipe finds")
    add_deep_argument(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.engine.runs import Run
    from itercli.engine.status import latest_keys, statuses
    from itercli.preflight import problems
    from itercli.preflight.lending import takes
    from itercli.recipe.memory import needs, notes, summary
    from itercli.recipe.plan import build_plan

    if args.multirun:
        return _sweep(args)
    try:
        plan = build_plan(load(args), provisional=True)
        if found := problems(plan, deep=args.deep):
            raise RecipeError(found, plan.recipe.config.name)
    except RecipeError as error:
        return fail_recipe(error, args.json)
    run_ = Run(Path(args.runs) / (args.name or plan.name))
    status = statuses(plan, run_.store, latest_keys(plan, run_))
    due = [i for i, s in status.items() if s.action == "run"]
    for i, what in takes(plan, run_.store, due, deep=args.deep):
        status[i] = replace(status[i], reason=f"{status[i].reason}; {what}")
    memory = needs(plan)
    memory_notes = notes(plan, memory)
    if args.json:
        return emit(
            "itercli.plan/1",
            run=run_.name,
            notes=[*plan.notes, *memory_notes],
            memory=[need.to_json() for need in memory],
            stages=[
                {
                    "node": n.id,
                    "iteration": n.iteration,
                    "uses": n.stage.NAME,
                    "kind": n.kind,
                    "key": n.key,
                    "action": status[n.id].action,
                    "reason": status[n.id].reason,
                    "needs": n.needs,
                    "models": {slot: use.label for slot, use in n.models.items()},
                }
                for n in plan.nodes.values()
            ],
        )
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{run_.name}", title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in ("stage", "action", "reason", "model", "key"):
        table.add_column(column, overflow="fold")
    style = {"run": "yellow", "reuse": "green", "resume": "cyan"}
    for n in plan.nodes.values():
        s = status[n.id]
        models = ", ".join(dict.fromkeys(use.label for use in n.models.values()))
        table.add_row(n.id, Text(s.action, style[s.action]), Text(s.reason), Text(models), n.key[:8])
    # Piped output has no width to respect; 80 columns would fold every name.
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    counts = {a: sum(s.action == a for s in status.values()) for a in style}
    console.print(", ".join(f"{n} to {a}" for a, n in counts.items() if n))
    for line in filter(None, [*plan.notes, summary(memory), *memory_notes]):
        console.print(line, highlight=False)
    return 0


def _sweep(args: argparse.Namespace) -> int:
    """What the points of a sweep would compute, and what sharing saves."""
    from itercli.engine.store import Store
    from itercli.sweep.launch import find_launcher, split
    from itercli.sweep.points import plan_points
    from itercli.sweep.preview import preview
    from itercli.sweep.table import render_plan

    own, hydra = split(args.overrides)
    try:
        find_launcher(hydra, args.recipes)
        planned = plan_points(own, args.recipes, provisional=True, trust=args.trust)
    except RecipeError as error:
        return fail_recipe(error, args.json)
    shown = preview(planned, Store(args.runs / ".store"))
    points = [
        {"run": p.point.run, "changed": p.point.changed, **asdict(shown.points[p.point.run])} for p in planned
    ]
    if args.json:
        return emit("itercli.sweep_plan/1", points=points, total=shown.total())
    render_plan(points)
    print(f"\n{shown}")
    return 0
