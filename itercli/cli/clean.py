"""Show what a folder of runs can do without and how much that frees, then remove it.

That is: artifacts that no run refers to, what was set aside as damaged, work files of
finished stages, temporary files, and logs of all but the newest attempt. Models are kept,
unless --keep-last N says that those of the newest N iterations of each run are enough; the
model of the best iteration and what an unfinished stage needs stay even then.

Nothing that a run refers to is removed. On a terminal it asks; elsewhere it only shows,
unless --yes is given. To be rid of a run, delete its folder first: what no other run
refers to goes with the next clean.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itercli.cli.common import add_runs_argument, emit, fail

if TYPE_CHECKING:
    from itercli.engine.garbage import Item

MOST = 6  # lines of a category


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--keep-last",
        type=_positive,
        metavar="N",
        help="also remove model files, but those of the newest N iterations of each run and of its best",
    )
    answer = parser.add_mutually_exclusive_group()
    answer.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    answer.add_argument("-y", "--yes", action="store_true", help="remove without asking")
    parser.add_argument(
        "--json", action="store_true", help="machine-readable output; removes only with --yes"
    )
    add_runs_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.engine.files import Locked
    from itercli.engine.garbage import survey
    from itercli.engine.removal import remove
    from itercli.errors import IterError
    from itercli.report.text import amount

    removed: list[Item] = []
    left: list[tuple[Path, str]] = []
    done = False
    try:
        keep = _best(args.runs) if args.keep_last is not None else set()
        found = survey(args.runs, keep_last=args.keep_last, keep=keep)
        if not args.json:
            _show(found, args.runs)
        if found and _agreed(args, found):
            removed, left = remove(args.runs, found, keep_last=args.keep_last, keep=keep)
            done = True
    except Locked as error:
        return fail(f"{error.holder or 'another process'} is cleaning {args.runs} already", 3)
    except (IterError, OSError) as error:
        return fail(error)
    if args.json:
        _emit(args, found, removed if done else None, left)
    elif done:
        for path, why in left:
            print(f"left: {path}: {why}", file=sys.stderr)
        print(f"removed {_things(removed)}, {amount(sum(i.size for i in removed))} freed")
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1: the newest model is what a run was for")
    return value


def _best(root: Path) -> set[str]:
    """Keys of the models behind the best headline metric of each run."""
    from itercli.engine.runs import all_runs
    from itercli.report.details import details

    keys = set()
    for found in all_runs(root):
        best = details(found)["best"] or {"models": {}}
        for model in best["models"].values():
            path = Path(model["path"] or "")
            if path.is_relative_to(found.store.root):
                keys.add(path.relative_to(found.store.root).parts[1])
    return keys


def _agreed(args: argparse.Namespace, found: list[Item]) -> bool:
    """Whether to go on: what the options say, or the person at the terminal."""
    if args.dry_run or args.yes or args.json:
        return bool(args.yes)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("nothing was removed: this is not a terminal, so `--yes` is needed")
        return False
    try:
        return input(f"remove {_things(found)}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _show(found: list[Item], root: Path) -> None:
    from itercli.engine.garbage import CATEGORIES
    from itercli.report.text import amount, clean

    if not found:
        print(f"{root}: nothing to remove")
        return
    base = root.resolve()
    for category, what in CATEGORIES.items():
        items = sorted((i for i in found if i.category == category), key=lambda i: -i.size)
        if not items:
            continue
        print(f"{amount(sum(i.size for i in items)):>9}  {category}: {len(items)} {what}")
        for item in items[:MOST]:
            owner = f"{item.run}, " if item.run else ""
            print(clean(f"{amount(item.size):>11}  {item.path.relative_to(base)} ({owner}{item.why})"))
        if len(items) > MOST:
            print(f"{'':>11}  and {len(items) - MOST} more; --json lists all")
    print(f"{amount(sum(i.size for i in found)):>9}  in all")
    runs = _by_run(found)
    if len(runs) > 1:
        print(clean("by run: " + ", ".join(f"{name} {amount(size)}" for name, size in runs.items())))


def _by_run(items: Iterable[Item]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for item in items:
        if item.run:
            sizes[item.run] = sizes.get(item.run, 0) + item.size
    return dict(sorted(sizes.items(), key=lambda pair: -pair[1]))


def _things(items: list[Item]) -> str:
    return "1 thing" if len(items) == 1 else f"{len(items)} things"


def _emit(
    args: argparse.Namespace, found: list[Item], removed: list[Item] | None, left: list[tuple[Path, str]]
) -> None:
    def entry(item: Item) -> dict[str, Any]:
        fields = ("category", "size", "why", "run")
        named = {name: getattr(item, name) for name in fields}
        return {**named, "path": str(item.path), "names": list(item.names)}

    shown = found if removed is None else removed
    emit(
        "itercli.clean/1",
        removed=removed is not None,
        size=sum(i.size for i in shown),
        items=[entry(i) for i in shown],
        left=[{"path": str(path), "why": why} for path, why in left],
    )
