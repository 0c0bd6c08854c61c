"""The `iter` command: picks a command module and imports only that."""

from __future__ import annotations

import sys
from collections.abc import Sequence

COMMANDS = {
    "run": "run a recipe, or continue it",
    "resume": "continue an interrupted run",
    "tune": "try values of options, trial by trial",
    "plan": "show what would run, and why, without running it",
    "validate": "check recipes completely",
    "recipes": "list, show, copy and begin recipes",
    "parts": "list what recipes are made of: scorers, selectors, metrics ...",
    "schema": "JSON Schema of recipe files, options of a stage",
    "models": "list known models, pull one",
    "runs": "list runs",
    "sweeps": "list sweeps, show the points of one",
    "show": "a run's stages, metrics, lineage and times",
    "samples": "look at prompts, completions and verdicts",
    "report": "write runs as one HTML page",
    "ui": "all runs in a browser, live",
    "compare": "runs beside each other: metrics, options, cost, tests",
    "export": "hand over a model, or a stage's rows, with a card",
    "eval": "evaluate any model, or a run's, on a suite",
    "clean": "remove what no run needs any more",
    "sync": "send a run's metrics to its trackers, later",
    "completion": "complete names and keys in your shell",
    "doctor": "check versions, tools, GPU and disk",
}
EXAMPLES = """\
examples:
  iter run recipe=itertl                     the default loop, no GPU needed
  iter run recipe=itertl loop.sample.n=8 seed=1
  iter plan recipe=itertl                    what would run, and why
  iter show                                  the newest run
  iter samples --iteration 2 --failed        what the model got wrong

Each command has its own --help.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    try:
        return _main(argv)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def _main(argv: Sequence[str] | None) -> int:
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if args[0] in ("-V", "--version"):
        from itercli import __version__

        print(f"itercli {__version__}")
        return 0
    name = args[0]
    if name == "__complete":  # what the scripts of `iter completion` call
        from itercli.cli.candidates import complete

        print("\n".join("\t".join(c) for c in complete(args[1:])))
        return 0
    if name not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean `iter {near[0]}`?" if near else ""
        print(f"iter: no command {name!r}.{hint} `iter --help` lists them.", file=sys.stderr)
        return 2
    from itercli.cli.parser import command_parser

    parser = command_parser(name)
    try:
        parsed = parser.parse_intermixed_args(args[1:])
        return int(parsed._run(parsed))
    except BrokenPipeError:  # `iter samples | head`
        sys.stderr.close()
        return 0


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [
        "usage: iter COMMAND ...",
        "",
        "Iterative self-training of language models: recipes in YAML, stages that resume.",
        "",
        "commands:",
        *(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()),
        "",
        EXAMPLES.rstrip(),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
