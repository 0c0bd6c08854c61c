"""Tune a recipe: trials over a search space, with Optuna.

A key is tuned by giving it several values, in Hydra's syntax; a recipe can have a `tune:`
mapping with space, metric and the rest. Each trial is one ordinary run, or one for each seed.
The same line goes on with the same study until it has `trials` trials.

  iter tune recipe=itertl 'training.lr=tag(log,interval(1e-5,1e-3))' loop.sample.n=4,8 trials=20
  iter tune recipe=itertl training.lr=1e-4,3e-4 metric=evaluate.pass@5 seeds=3
  iter tune --show [STUDY]          the trials of a study (the newest), without running any
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from itercli.cli.common import add_recipe_arguments, emit, fail, fail_recipe
from itercli.errors import IterError
from itercli.recipe.errors import RecipeError
from itercli.report.text import clean

if TYPE_CHECKING:
    from itercli.tune.line import Line
    from itercli.tune.study import Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_recipe_arguments(parser)
    parser.add_argument("--show", action="store_true", help="list the study's trials, run none")
    parser.add_argument("--json", action="store_true", help="the same, machine-readable")
    parser.add_argument("--offline", action="store_true", help="never download a model")
    parser.add_argument("--plain", action="store_true", help="plain lines instead of a live display")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.tune.line import read
    from itercli.tune.study import FOLDER, STUDY_FILE, Study, open_named
    from itercli.tune.view import content, render

    look = args.show or args.json
    root = Path(args.runs)
    try:
        if look and not any("=" in o for o in args.overrides):
            study = open_named(root, next(iter(args.overrides), None))
        else:
            line = read(args.overrides, args.recipes, download=not (args.offline or look), trust=args.trust)
            path = root / FOLDER / line.name
            if look and not (path / STUDY_FILE).exists():
                return fail(f"this line's study {line.name} has not begun")
            study = Study(path, line.spec)
    except RecipeError as error:
        return fail_recipe(error, args.json)
    except (LookupError, IterError) as error:
        return fail(error)
    if not look:
        code = _work(args, study, line)
    shown = content(study, root)
    if args.json:
        return emit("itercli.tune/1", **shown)
    render(study, shown)
    if look:
        return 0
    if code:
        why = "stopped" if code > 128 else "ended by the error above"
        print(f"{why}; everything finished is kept. Go on with:\n  {study.about['command']}", file=sys.stderr)
    return code or int(shown["study"]["best"] is None)


def _work(args: argparse.Namespace, study: Study, line: Line) -> int:
    """Run what is left of the study; returns the exit code."""
    from itercli.engine.runs import Run
    from itercli.report.runs import runs_option
    from itercli.tune.work import work

    root = Path(os.path.abspath(args.runs))
    folders = [part for folder in args.recipes for part in ("--recipes", folder)] + ["--trust"] * args.trust
    study.describe(
        recipe=line.recipe,
        command=shlex.join(["iter", "tune", *args.overrides, *folders]) + runs_option(Run(root / study.name)),
        folder=os.getcwd(),
        fixed=list(line.fixed),
        recipes=args.recipes,
        spec=line.spec.model_dump(mode="json"),
    )
    return work(
        study,
        line,
        root=root,
        plain=args.plain,
        note=lambda text: print(f"{time.strftime('%H:%M:%S')} {clean(text)}", flush=True),
    )
