"""A loop without a model, for tests of the engine: real stages, real processes, fake work.

The "policy" is a number that grows with training; completions are digits drawn from the
completion's seed; a completion passes if its number is below the policy's.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from itercli.records import Message, ModelRef, Prompt, RankedExample, Score, Trajectory
from itercli.registry import Component, how, register
from itercli.sampling.base import Request, Sampled, SamplerSpec
from itercli.stages.selectors import Dropped, Selector
from itercli.training.base import Interrupted, Method, TrainJob, TrainResult
from itercli.verifiers.base import Scorer


@register("source", "toy")
class ToySource(Component):
    count: int = 8
    note: str = ""

    def prompts(self) -> Iterator[Prompt]:
        for i in range(self.count):
            yield Prompt(
                id=f"p{i}",
                messages=[Message(role="user", content=f"task {i}")],
                meta={"template": f"t{i % 2}"},
            )

    def fingerprint(self) -> dict[str, Any]:
        return {}


class ToySampler:
    def __init__(self, spec: ToySamplerSpec) -> None:
        self.spec = spec
        self.levels: dict[str | None, int] = {}

    def load(self, model: ModelRef, *others: ModelRef) -> dict[str, Any]:
        refs = (model, *others)
        self.levels = {
            r.version: json.loads((Path(r.base) / "config.json").read_text())["level"] for r in refs
        }
        self.levels[None] = level = self.levels[model.version]
        return {"level": level}

    def generate(self, requests: Iterable[Request | None], stopping: Callable[[], bool]) -> Iterator[Sampled]:
        # Nothing is ever under way when the next request is read, so None can't mean "wait".
        for n, request in enumerate(r for r in requests if r is not None):
            if stopping():
                return
            time.sleep(self.spec.delay)
            if n == self.spec.at:
                if self.spec.fault == "short":
                    return
                misbehave(self.spec.fault)
            yield Sampled(request.key, f"{request.seed % 100} at {self.levels[request.policy]}", "stop", 3)

    def close(self) -> None:
        pass


@register("sampler", "toy")
class ToySamplerSpec(SamplerSpec):
    delay: float = how(default=0.0)
    fault: Literal["none", "oom", "hang", "raise", "exit", "short"] = how(default="none")
    at: int = how(default=3)

    def build(self) -> ToySampler:
        return ToySampler(self)


def misbehave(fault: str) -> None:
    once = os.environ.get("TOY_FAULT_ONCE")
    if once:
        if Path(once).exists():
            return
        Path(once).touch()
    if fault == "oom":
        os.kill(os.getpid(), 9)  # what the kernel's OOM killer does
    if fault == "hang":
        time.sleep(3600)
    if fault == "raise":
        raise RuntimeError("toy trouble")
    if fault == "exit":
        print("toy says goodbye", flush=True)
        os._exit(7)


class ToyJudge:
    def __init__(self, delay: float) -> None:
        self.delay = delay

    def score(self, prompt: Prompt, trajectory: Trajectory) -> Score:
        time.sleep(self.delay)
        number, _, level = trajectory.completion.partition(" at ")
        passed = int(number) < 40 + 20 * int(level)
        return Score(
            prompt_id=prompt.id, index=trajectory.index, completion=trajectory.completion,
            policy=trajectory.policy, value=float(passed), passed=passed,
            outcome="pass" if passed else "mismatch", answer=number,
        )  # fmt: skip

    def close(self) -> None:
        pass


@register("scorer", "toy")
class ToyScorer(Scorer):
    delay: float = how(default=0.0)

    def open(self) -> ToyJudge:
        return ToyJudge(self.delay)

    def fingerprint(self) -> dict[str, Any]:
        return {}


@register("selector", "toy")
class ToySelector(Selector):
    EXAMPLES = RankedExample
    keep: bool = True

    def select(self, groups: Any, *, rng: Any) -> Iterator[RankedExample | Dropped]:
        for prompt, scores in groups:
            if not self.keep:
                yield Dropped(prompt.id, None, "told to")
                continue
            yield RankedExample(
                prompt_id=prompt.id, messages=prompt.messages, target=None,
                responses=[s.answer for s in scores], scores=[s.value for s in scores],
            )  # fmt: skip


@register("method", "toy")
class ToyMethod(Method):
    EXAMPLES = RankedExample
    steps: int = 4
    delay: float = how(default=0.0)

    def train(self, job: TrainJob) -> TrainResult:
        checkpoints = job.work / "checkpoints"
        checkpoints.mkdir(exist_ok=True)
        done = max((int(p.name[5:]) for p in checkpoints.glob("step-*")), default=0)
        for step in range(done, self.steps):
            if job.stopping():
                raise Interrupted
            time.sleep(self.delay)
            (checkpoints / f"step-{step + 1}").mkdir()
            job.report(step + 1, self.steps, {"loss": 1.0 / (step + 1)})
        level = json.loads((Path(job.start.base) / "config.json").read_text())["level"]
        (job.out / "weights").mkdir()
        config = {"level": level + 1, "salt": os.environ.get("TOY_SALT", "")}
        (job.out / "weights" / "config.json").write_text(json.dumps(config))
        return TrainResult(self.steps, {"loss": 0.1})


@register("method", "toy_anchored")
class ToyAnchored(ToyMethod):
    USES_REFERENCE = True
