"""Hand over a run's model, or a stage's rows, as a folder with a card.

iter export                              the best version of the newest run's model
iter export RUN --iteration 2 --merge    a LoRA adapter and its base as one model
iter export RUN --to hub:org/name        to a hub, with the token of `hf auth login`
iter export RUN --dataset score --to DIR rows of a stage, for `datasets.load_dataset(DIR)`
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from itercli.cli.common import add_runs_argument, emit, fail
from itercli.errors import IterError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_name", nargs="?", metavar="RUN", help="name, its beginning, or path (newest)")
    parser.add_argument("--role", help="role whose model it is (the trained one)")
    parser.add_argument(
        "--iteration", metavar="N", help="best, last or a number (best by the headline); rows: all, last, N"
    )
    parser.add_argument("--to", metavar="DIR", help="folder, or hub:ORG/NAME (exports/RUN-VERSION)")
    parser.add_argument("--merge", action="store_true", help="make one model of a LoRA adapter and its base")
    parser.add_argument("--base", metavar="NAME", help="hub id under which others find the start model")
    parser.add_argument("--gguf", action="store_true", help="also a GGUF file, for llama.cpp")
    parser.add_argument("--dataset", metavar="STAGE", help="instead of a model: rows of this stage")
    parser.add_argument("--force", action="store_true", help="replace an earlier export that is there")
    parser.add_argument("--public", action="store_true", help="a new repository on a hub is not private")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    add_runs_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.handover.hub import check_access, hub_id, upload
    from itercli.report.runs import lookup

    models_only = [f"--{n}" for n in ("role", "merge", "base", "gguf") if getattr(args, n)]
    if args.dataset and models_only:
        return fail(f"{models_only[0]} is about models, --dataset exports rows", 2)
    try:
        found = lookup(args.runs, args.run_name)
        repo = hub_id(args.to) if args.to else None
        if repo is not None:
            check_access(repo)
        folder = Path(args.to) if args.to and repo is None else None
        result = _rows(found, folder, args) if args.dataset else _model(found, folder, args)
        if repo is not None:
            result["hub"] = upload(
                Path(result["path"]), repo, "dataset" if args.dataset else "model", private=not args.public
            )
    except (LookupError, IterError, OSError) as error:
        return fail(error)
    if args.json:
        return emit("itercli.export/1", **result)
    for line in result["warnings"]:
        print(f"note: {line}", file=sys.stderr)
    print(f"{result['path']}: {result['what']}")
    if result["hub"]:
        print(f"uploaded: {result['hub']}")
    return 0


def _model(run: Any, folder: Path | None, args: argparse.Namespace) -> dict[str, Any]:
    from itercli.handover.bases import base_of
    from itercli.handover.model import export_model
    from itercli.handover.versions import choose

    version = choose(run, role=args.role, iteration=args.iteration)
    base = base_of(version, args.base)
    target = folder or Path("exports") / f"{run.name}-{version.label.replace('@', '-')}"
    done = export_model(version, base, target, merge=args.merge, gguf=args.gguf, force=args.force)
    return {
        "run": run.name,
        "path": str(done.path),
        "hub": None,
        "what": f"{version.label}, {done.form}; {version.why}",
        "warnings": done.warnings,
        "model": {
            "role": version.role,
            "version": version.label,
            "iteration": version.iteration,
            "why": version.why,
            "form": done.form,
            "base": asdict(base),
        },
        "dataset": None,
        "files": done.files,
    }


def _rows(run: Any, folder: Path | None, args: argparse.Namespace) -> dict[str, Any]:
    from itercli.handover.dataset import export_rows
    from itercli.handover.folder import MARKER

    target = folder or Path("exports") / f"{run.name}-{args.dataset.replace('/', '-')}"
    done = export_rows(run, args.dataset, target, iteration=args.iteration or "all", force=args.force)
    rows = sum(done.nodes.values())
    return {
        "run": run.name,
        "path": str(done.path),
        "hub": None,
        "what": f"{rows} rows of {done.stage} ({done.kind}) from {len(done.nodes)} iterations",
        "warnings": ["the rows hold texts as models wrote them"],
        "model": None,
        "dataset": {"stage": done.stage, "kind": done.kind, "nodes": done.nodes, "columns": done.columns},
        "files": {
            str(p.relative_to(target)): p.stat().st_size
            for p in sorted(target.rglob("*"))
            if p.is_file() and p.name != MARKER
        },
    }
