"""Evaluate a model, or a run's version of one, on a suite; `iter eval` alone lists the suites.

  iter eval tiny-rtl suite=rtl_heldout          a known name, a folder, an adapter, a hub id
  iter eval RUN suite=rtl_heldout n=10          a run's best version; RUN:last, RUN:2, RUN:ROLE@2
  iter eval RUN suite=lm_eval 'tasks=[arc_easy]' general abilities, by lm-evaluation-harness

It is a run like any other: durable, listed by `iter runs`, and done once.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

from itercli.cli.common import add_runs_argument, add_trust_argument, emit, fail, fail_recipe
from itercli.errors import IterError
from itercli.recipe.errors import RecipeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "overrides", nargs="*", metavar="RUN|MODEL suite=NAME KEY=VALUE", help="what, by what, and options"
    )
    parser.add_argument(
        "--recipes", action="append", default=[], metavar="DIR", help="folder with own suites"
    )
    parser.add_argument("--name", help="name of the run (suite and a hash of what it computes)")
    parser.add_argument("--offline", action="store_true", help="never download a model")
    parser.add_argument("--plain", action="store_true", help="plain lines instead of a live display")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    add_trust_argument(parser)
    add_runs_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.handover.suites import compose_suite, target
    from itercli.recipe.plan import build_plan
    from itercli.recipe.trust import check_composed

    if not args.overrides:
        return _suites(args)
    what = [o for o in args.overrides if "=" not in o]
    overrides = [o for o in args.overrides if "=" in o]
    if len(what) > 1:
        return fail(f"one run or model at a time: {', '.join(what)}", 2)
    if args.name and ("/" in args.name or args.name.startswith(".")):
        return fail(f"--name {args.name!r}: a run name is a plain folder name", 2)
    version = None
    try:
        if what:
            model, version = target(args.runs, what[0], args.recipes)
            overrides.append(model)
        composed = compose_suite(overrides, args.recipes)
        plan = build_plan(check_composed(composed, trust=args.trust), download=not args.offline)
    except RecipeError as error:
        return fail_recipe(error, args.json)
    except (LookupError, IterError) as error:
        return fail(error)
    return _execute(args, plan, overrides, what[0] if what else None, version)


def _execute(
    args: argparse.Namespace, plan: Any, overrides: list[str], what: str | None, version: Any
) -> int:
    from itercli.cli.execute import execute
    from itercli.engine.runs import Run
    from itercli.report.tables import by_iteration

    name = args.name or plan.name
    if version is not None:
        print(f"{version.label} of {version.run.name}, {version.why}", file=sys.stderr)
    # With --json standard output is for the result alone.
    with contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext():
        code = execute(
            plan,
            root=Path(args.runs),
            name=name,
            overrides=overrides,
            again=None,
            plain=args.plain or args.json,
        )
    if code or not args.json:
        return code
    made = Run(Path(args.runs) / name)
    (model,) = list(made.info["roles"].values())[:1]
    return emit(
        "itercli.eval/1",
        run=name,
        path=str(made.path),
        suite=plan.recipe.config.name,
        model={
            "given": what,
            **model,
            "run": version and version.run.name,
            "version": version and version.label,
            "iteration": version and version.iteration,
        },
        metrics={metric: values[0] for metric, values in by_iteration(made).items()},
    )


def _suites(args: argparse.Namespace) -> int:
    from itercli.recipe.compose import load_yaml
    from itercli.recipe.tree import options

    rows = [
        {"name": name, "description": str((load_yaml(path) or {}).get("description", "")), "file": str(path)}
        for name, path in sorted(options("suite", args.recipes).items())
    ]
    if args.json:
        return emit("itercli.suites/1", suites=rows)
    width = max((len(r["name"]) for r in rows), default=0)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['description']}")
    return 0
