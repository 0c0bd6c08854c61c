"""What the tests of judging stages share: a judge whose answers are given, and rows in memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itercli.engine.context import Context
from itercli.engine.rows import read_rows
from itercli.engine.store import ROWS, Store
from itercli.records import Message, ModelRef, Prompt, Record, Score, Trajectory
from itercli.sampling.base import Request, Sampled, SamplerSpec
from itercli.stages.judge import Judge
from itercli.stages.judging import JudgeStage
from itercli.verifiers.rubrics import LONGBENCH_WRITE, Rubric

JUDGE = ModelRef(base="", version="judge@0", digest="served:strict-1")
Answer = Callable[[Request], str | Sampled]


class Scripted(SamplerSpec):
    """A sampler whose answers a test decides on; `requests` keeps what was asked."""

    def build(self) -> Any:
        raise AssertionError("the context hands out the test's own")


@dataclass
class ScriptedSampler:
    answer: Answer
    requests: list[Request] = field(default_factory=list)

    def load(self, model: ModelRef, *others: ModelRef) -> dict[str, Any]:
        assert model == JUDGE
        assert not others
        return {}

    def generate(self, requests: Iterable[Request | None], stopping: Callable[[], bool]) -> Iterator[Sampled]:
        for request in requests:
            if stopping():
                return
            assert request is not None
            self.requests.append(request)
            made = self.answer(request)
            yield made if isinstance(made, Sampled) else Sampled(request.key, made, "stop", 5)

    def close(self) -> None: ...


@dataclass
class Rows:
    """An artifact in memory."""

    content: list[Record]
    label: str = "before/somewhere"

    def rows(self, record: type[Record]) -> Iterator[Record]:
        return iter(self.content)


def text(number: int, completion: str, index: int = 0, policy: str = "policy@1") -> Trajectory:
    return Trajectory(
        prompt_id=f"p{number}", index=index, seed=7, completion=completion,
        finish="stop", tokens=3, policy=policy,
    )  # fmt: skip


def prompts(count: int) -> list[Record]:
    return [Prompt(id=f"p{n}", messages=[Message(role="user", content=f"Write {n}.")]) for n in range(count)]


class Bench:
    """Runs a judging stage in this process, on a real journal and store."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self.entry = Store(path).entry("scores", "k")
        self.entry.path.mkdir(parents=True)
        self.sampler = ScriptedSampler(answer)
        self.stop = threading.Event()

    def run(self, stage: JudgeStage, seed: int = 11, **inputs: list[Any]) -> list[Score]:
        count = len({r.prompt_id for rows in inputs.values() for r in rows})
        ctx = Context(
            name="iteration-01/quality", iteration=1, seed=seed, entry=self.entry,
            inputs={"prompts": [Rows(prompts(count))], **{s: [Rows(rows)] for s, rows in inputs.items()}},
            models={"judge": JUDGE}, shared={}, stop=self.stop, send=lambda message: None,
        )  # fmt: skip
        ctx.shared = lambda key, make: self.sampler  # type: ignore[assignment, return-value]
        try:
            stage.run(ctx)
        finally:
            ctx.close()
        self.counts = ctx.counts
        self.missing = ctx.work / "missing.json"
        return list(read_rows(self.entry.path / ROWS, Score))


def judge(rubric: Any = "longbench_write", **options: Any) -> Judge:
    return Judge(role="judge", of="sample", rubric=rubric, sampler=Scripted(), **options)


def rated(
    rating: int, rubric: Rubric = LONGBENCH_WRITE, analysis: str = "Sound, but dry.", **changed: Any
) -> str:
    return json.dumps({"analysis": analysis, **dict.fromkeys(rubric.dimensions, rating), **changed})
