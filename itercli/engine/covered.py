"""A worker's side of stage keys: a stage works on what its key says, or it stores nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itercli import __version__
from itercli.engine.status import changed
from itercli.ledger import AGAIN, Changed, Watch, watch
from itercli.models.digest import adapter_digest, folder_digest, model_files
from itercli.stages.base import Stage

LOOK_SECONDS = 1.0


def verify(order: Mapping[str, Any], stage: Stage) -> None:
    """Compare what a stage's key was made of with what is there; all files are hashed as they are now.

    Raises:
        Changed: Something was edited since the run was planned, with what it is.
    """
    if order["itercli"] != __version__:
        raise Changed(
            f"itercli was {order['itercli']} when this run was planned and is {__version__} now. {AGAIN}"
        )
    old = order["ingredients"]
    try:
        found = {"options": stage.key_params(), "fingerprint": stage.fingerprint()}
        new = {**old, **json.loads(json.dumps(found))}
        what = "" if new == old else changed(old, new).partition(": ")[0]
        what = what or next(filter(None, map(_model_changed, order["models"].values())), "")
    except Changed:
        raise
    except Exception as error:  # a file that is gone, a tool that no longer starts; from a plug-in anything
        what = f"what it works on can't be read any more ({error})"
    if what:
        raise Changed(f"{what} since this run was planned; nothing is stored. {AGAIN}")


def _model_changed(use: Mapping[str, Any]) -> str:
    """Whether a role's start model is another one than when its digest was made, in words."""
    base, _, adapter = use["digest"].partition("+")
    if not use["path"]:
        return ""
    folder = Path(use["path"])
    if base.startswith("sha256:"):
        if folder_digest(folder, code=use["trust_remote_code"]) != base:
            return f"the model in {folder} changed"
    else:  # known by its commit
        for path in model_files(folder, code=True):
            watch(path)
    if adapter and adapter_digest(Path(use["adapter"])) != adapter:
        return f"the adapter in {use['adapter']} changed"
    return ""


class Guard:
    """Looks again and again whether what a stage uses is written to, and has the stage stop then."""

    def __init__(self, files: Watch, stop: threading.Event) -> None:
        self._files, self._stop = files, stop
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="inputs", daemon=True)
        self._reason = ""

    def __enter__(self) -> Guard:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            if self.changed():
                self._stop.set()
                return

    def changed(self) -> str:
        """What was written to, or an empty string; once it is known it stays."""
        self._reason = self._reason or self._files.changed()
        return self._reason
