"""One `iter run`: lock the run's folder, run the plan, say how it ended.

Exit codes: 0 done, 1 a stage failed, 3 another process runs this run, 130 and 143 after
SIGINT and SIGTERM.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from itercli import __version__
from itercli.engine.checked import Damaged, tell
from itercli.engine.display import make_display
from itercli.engine.files import Locked
from itercli.engine.machine import machine
from itercli.engine.runner import RunFailed, RunInterrupted, Runner
from itercli.engine.runs import Run
from itercli.recipe.errors import RecipeError
from itercli.recipe.plan import Plan
from itercli.report.tables import closing, launcher
from itercli.report.text import clean
from itercli.tracking.followers import Followers, Watched


def execute(
    plan: Plan,
    *,
    root: Path,
    name: str,
    overrides: list[str],
    again: str | None,
    plain: bool = False,
    quiet: bool = False,
) -> int:
    """Run a plan in `root/name` and return the exit code.

    Args:
        again: Command that continues the run; shown when it is interrupted.
        plain: Print plain lines also on a terminal.
        quiet: Leave it to the caller to say how it ended.
    """
    run = Run(Path(os.path.abspath(root)) / name)
    again = again or f"{launcher()} resume {name}"
    try:
        with run.lock():
            return _locked(plan, run, overrides, again, plain, quiet)
    except Locked as error:
        if not quiet:
            print(
                f"error: run {name} is being run by {error.holder} already. Wait for it, or give this "
                f"one another name with --name; stages they share are computed once",
                file=sys.stderr,
            )
        return 3
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1


def _locked(plan: Plan, run: Run, overrides: list[str], again: str, plain: bool, quiet: bool) -> int:
    run.repair()
    _repair_config(plan, run)
    info = _info(plan, run, overrides)
    followers = Followers(run, plan.recipe.config.tracker, plan.recipe.plugins)
    display = Watched(make_display(plain), followers)
    runner = Runner(plan, run, display)
    if info["state"] != "finished" or not run.info:
        info["state"] = "running"
        _save(run, plan, info)
        where = {"itercli": __version__, "machine": machine()}
        run.event("run_started", pid=os.getpid(), argv=sys.argv, notes=plan.notes, **where)
        followers.start()
    code, message = 0, ""
    started = time.monotonic()
    try:
        outcome = runner.execute()
        info["state"] = "finished"
        info["nodes"] = _nodes(runner.plan)
        info.pop("stopped_early", None)
        if outcome.stopped_early:
            info["stopped_early"] = outcome.stopped_early
    except RunInterrupted as error:
        code, info["state"] = 128 + error.signum, "interrupted"
        message = f"{error}; everything finished is kept. Go on with:\n  {again}"
    except RecipeError as error:
        code, info["state"] = 2, "failed"
        info["error"] = str(error)
        message = error.render()
    except RunFailed as error:
        code, info["state"] = 1, "failed"
        info["error"] = str(error)
        message = f"error: {error}\n\nEverything finished is kept. When it is mended, go on with:\n  {again}"
    finally:
        display.close()
    if info != run.info:
        if runner.outcome.ran or code:
            info["updated"] = _now()
        info["seconds"] = round(info.get("seconds", 0) + time.monotonic() - started, 1)
        if code == 0:
            info.pop("error", None)
        if runner.outcome.ran or code or run.info.get("state") != info["state"]:
            run.save(info)
            run.event("run_ended", state=info["state"], ran=runner.outcome.ran, reused=runner.outcome.reused)
    if message and not quiet:
        print(clean(message), file=sys.stderr)  # it may quote a server or a worker's log
    elif not quiet:
        closing(run, runner.outcome)
        sys.stdout.flush()
    for line in followers.close():
        print(line, file=sys.stderr)
    return code


def _info(plan: Plan, run: Run, overrides: list[str]) -> dict[str, Any]:
    """run.json of this attempt, on top of what earlier ones left."""
    old = run.info
    nodes = _nodes(plan)
    same = old.get("nodes") == nodes or (
        old.get("stopped_early") and old.get("nodes", {}).items() <= nodes.items()
    )
    return {
        "format": 1,
        "recipe": plan.recipe.config.name,
        "overrides": overrides,
        "folder": os.getcwd(),
        "created": old.get("created") or _now(),
        "updated": old.get("updated") or _now(),
        "state": old.get("state", "new") if same and old.get("overrides") == overrides else "new",
        "seconds": old.get("seconds", 0),
        "iterations": plan.recipe.config.iterations,
        "headline": plan.recipe.config.headline,
        "roles": {
            role: {
                "path": str(m.path) if m.path else None,
                "adapter": str(m.adapter) if m.adapter else None,
                "digest": m.digest,
                "source": m.source,
                "trust_remote_code": m.trust_remote_code,
                "template_date": m.template_date,
            }
            for role, m in plan.roots.items()
        },
        "nodes": old["nodes"] if same else nodes,
        **({"stopped_early": old["stopped_early"]} if same and "stopped_early" in old else {}),
        **({"config": old["config"]} if "config" in old else {}),
    }


def _nodes(plan: Plan) -> dict[str, Any]:
    return {
        n.id: {
            "kind": n.kind,
            "key": n.key,
            "uses": n.stage.NAME,
            "iteration": n.iteration,
            "needs": n.needs,
            "models": {slot: use.label for slot, use in n.models.items()},
        }
        for n in plan.nodes.values()
    }


def _save(run: Run, plan: Plan, info: dict[str, Any]) -> None:
    info["updated"] = _now()
    info["config"] = run.write_config(_text(plan))
    run.save(info)


def _text(plan: Plan) -> str:
    return yaml.safe_dump(plan.recipe.raw, sort_keys=False, allow_unicode=True)


def _repair_config(plan: Plan, run: Run) -> None:
    """Write a damaged config.yaml anew, also of a run that has nothing else to do."""
    try:
        run.config_text()
    except Damaged as error:
        if run.info:
            tell(f"{error}; written anew")
            run.save({**run.info, "config": run.write_config(_text(plan))})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
