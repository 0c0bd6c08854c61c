"""Start of a follower: ``python -m itercli.tracking RUN TRACKER``, its options in the first line of stdin."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from itercli import registry
from itercli.engine.files import Locked, lock
from itercli.engine.runs import Run
from itercli.tracking.base import Tracker
from itercli.tracking.follower import Follower, end_of_input
from itercli.tracking.position import FOLDER

BUSY = 3


def main(path: str, name: str) -> int:
    """Follow a run; 0: all was sent, 1: something is left, 3: another process does it."""
    os.nice(10)  # the run comes first
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    order = json.loads(_line())
    for plugin in order["plugins"]:
        registry.load_plugin(Path(plugin))
    tracker = load(name, order["options"])
    run = Run(Path(path))
    ended = threading.Event()
    if order["later"]:
        ended.set()
    else:
        ended = end_of_input(tracker.wait)
    try:
        with lock(run.path / FOLDER / f".{name}.lock", f"process {os.getpid()}"):
            code = 0 if Follower(run, tracker, later=order["later"]).follow(ended) else 1
    except Locked as error:
        print(f"{error.holder} sends to {name} already", file=sys.stderr)
        return BUSY
    return code


def load(name: str, options: dict[str, Any]) -> Tracker:
    """The tracker with its options."""
    cls = registry.find("tracker", name)
    if cls is None:
        raise SystemExit(f"unknown tracker {name!r}; there are: {', '.join(registry.names('tracker'))}")
    return cls.model_validate(options)  # type: ignore[return-value]


def _line() -> bytes:
    """The first line of standard input, and not a byte more: the rest belongs to `end_of_input`."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            raise SystemExit("no options on standard input")
        line += byte
    return line


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
