"""A loop of one stage that makes a metric, for tests: the higher x, the higher the hill."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import ClassVar, Literal

from itercli.registry import how, register
from itercli.stages.base import Stage, StageContext
from itercli.training.base import Interrupted


@register("stage", "hill")
class Hill(Stage):
    OUTPUT = "metrics"
    SEEDED = True
    metrics: ClassVar[tuple[str, ...]] = ("height", "depth")

    uses: Literal["hill"] = "hill"
    x: float = 0.0
    steps: int = 1
    total: int = 0
    delay: float = how(default=0.0)
    dies_once: str = how(default="")

    def run(self, ctx: StageContext) -> None:
        if self.dies_once and not Path(self.dies_once).exists():
            Path(self.dies_once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        until = time.monotonic() + self.delay
        while time.monotonic() < until:
            if ctx.stopping():
                raise Interrupted
            time.sleep(0.02)
        height = ctx.iteration * self.x + ctx.seed % 1000 / 1e6
        ctx.finish_metrics({"height": height, "depth": -height})
