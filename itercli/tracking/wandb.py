"""Weights & Biases: own axes, the same run after a resume, offline without an account.

Its own step only rises, and it drops what is logged below it. So metrics are plotted against
``iteration`` and ``global_step``, and its step is a mere count of rows, kept over attempts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from itercli.registry import register
from itercli.tracking.base import About, ModelFiles, Point, SampleTable, Sink, Tracker

Mode = Literal["auto", "online", "offline", "disabled"]
INIT_SECONDS = 60


@register("tracker", "wandb")
class Wandb(Tracker):
    """Options of Weights & Biases."""

    PACKAGE = EXTRA = "wandb"

    mode: Mode = Field("auto", description="auto: WANDB_MODE, else online with an API key, else offline.")
    project: str = "itercli"
    entity: str | None = Field(None, description="User or team; none: the account's default.")
    group: str | None = Field(None, description="Name for runs that belong together; none: the sweep's.")
    tags: tuple[str, ...] = Field((), description="Besides the recipe's name.")
    samples: int = Field(0, ge=0, description="Rows of a sample table for each iteration.")
    model: Literal[False, "last", "best"] = Field(
        False, description="Log the last or the best model as an artifact when the run is finished."
    )
    system: bool = Field(False, description="Also use of CPU, GPU and memory of the follower's machine.")

    def open(self, about: About) -> Sink:
        return WandbSink(self, about)

    def catch_up(self, about: About) -> str:
        """`wandb sync` of the folders of offline attempts, and of those that died while uploading."""
        folders = [f for f in about.memory.get("unsent", []) if Path(f).is_dir()]
        if folders and not has_account():
            waiting = f"what was written offline waits in {about.folder / 'wandb'}"
            return f"{waiting}; `wandb login`, then again"
        if folders:
            subprocess.run([sys.executable, "-m", "wandb", "sync", *folders], check=True)
        about.memory["unsent"] = []
        return ""

    def mode_now(self) -> str:
        """online, offline or disabled, decided without asking anybody."""
        if self.mode != "auto":
            return self.mode
        named = os.environ.get("WANDB_MODE", "")
        if named in ("online", "offline", "disabled"):
            return named
        return "online" if has_account() else "offline"


def has_account() -> bool:
    """Whether wandb finds credentials; it asks nobody, since a follower has no terminal."""
    import wandb

    try:
        return bool(wandb.login(verify=False))
    except wandb.errors.UsageError:
        return False


class WandbSink(Sink):
    """One attempt's wandb run; `memory` holds its id, its next step and folders to upload later."""

    def __init__(self, spec: Wandb, about: About) -> None:
        import wandb

        self._wandb = wandb
        self._about, self._memory = about, about.memory
        mode = spec.mode_now()
        self._memory.setdefault("id", about.identity)
        common: dict[str, Any] = {
            "project": spec.project,
            "entity": spec.entity,
            "id": self._memory["id"],
            "resume": "allow",
            "dir": str(about.folder),
            "name": about.name,
            "group": spec.group or about.group,
            "tags": [*about.tags, *spec.tags],
            "config": about.config,
            "settings": wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_stats=not spec.system,
                init_timeout=INIT_SECONDS,
            ),
        }
        try:
            self._run = wandb.init(mode=mode, **common)  # type: ignore[arg-type]
        except wandb.errors.Error as error:
            if spec.mode != "auto" or mode != "online":
                raise
            print(f"no answer from wandb ({error}); offline", file=sys.stderr, flush=True)
            mode = "offline"
            wandb.teardown()  # its service still holds the run's id
            self._run = wandb.init(mode="offline", **common)
        self._memory["mode"] = mode
        # Uploaded or not, it counts as open until it was ended in order.
        self._folder = str(Path(self._run.dir).parent)
        if mode != "disabled":
            self._memory["unsent"] = [*self._memory.get("unsent", []), self._folder]
        self._run.define_metric("iteration", hidden=True)
        self._run.define_metric("global_step", hidden=True)
        self._defined: set[str] = set()

    def log(self, points: Iterable[Point]) -> None:
        for point in points:
            for name in point.values.keys() - self._defined:
                self._run.define_metric(name, step_metric=point.axis)
                self._defined.add(name)
            self._send({point.axis: point.at, **point.values})

    def table(self, table: SampleTable) -> None:
        content = self._wandb.Table(columns=list(table.columns), data=table.rows)
        self._send({"iteration": table.iteration, f"samples/{table.stage}": content})

    def model(self, model: ModelFiles) -> None:
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in f"{self._about.name}-{model.role}")
        artifact = self._wandb.Artifact(name, type="model", metadata={"version": model.version})
        # The store keeps the files, so that no copy has to wait for the upload.
        artifact.add_dir(str(model.path), policy="mutable")
        self._run.log_artifact(artifact, aliases=["latest", model.version.replace("@", "-")])

    def close(self, state: str, summary: dict[str, Any]) -> None:
        self._run.summary.update({"state": state, **summary})
        self._run.finish(exit_code=0 if state in ("finished", "running") else 1)
        if self._memory["mode"] == "online":
            self._memory["unsent"].remove(self._folder)

    def _send(self, row: dict[str, Any]) -> None:
        step = max(self._run.step, self._memory.get("step", 0))
        self._run.log(row, step=step)
        self._memory["step"] = step + 1
