"""What the tests of Self-Lengthen share: a stage run over rows, with a model whose answers are given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itercli.engine.context import Context
from itercli.engine.rows import read_rows
from itercli.engine.store import ROWS, Store
from itercli.records import Message, ModelRef, Prompt, Record, Trajectory
from itercli.sampling.base import Request, Sampled, SamplerSpec
from itercli.stages.base import Stage

MODELS = {"policy": ModelRef(base="w", version="policy@1", digest="p")}
Answer = str | tuple[str, str]
"""A text, or a text and how it ended."""


class Fake(SamplerSpec):
    """Never built: the bench hands out its own sampler."""


@dataclass
class Scripted:
    """Answers one request after the other, so a job is over before the next begins."""

    answer: Callable[[Request], Answer]
    asked: list[Request] = field(default_factory=list)

    def load(self, *models: ModelRef) -> dict[str, Any]:
        return {}

    def generate(self, requests: Iterable[Request | None], stopping: Callable[[], bool]) -> Iterator[Sampled]:
        for request in requests:
            assert request is not None
            self.asked.append(request)
            made = self.answer(request)
            text, finish = (made, "stop") if isinstance(made, str) else made
            yield Sampled(request.key, text, finish, 3)  # type: ignore[arg-type]

    def close(self) -> None: ...


def script(*answers: Answer) -> Callable[[Request], Answer]:
    left = iter(answers)
    return lambda request: next(left)


@dataclass
class Rows:
    content: Sequence[Record]
    label: str = "before/somewhere"

    def rows(self, record: type[Record]) -> Iterator[Record]:
        return iter(self.content)


class Bench:
    """Runs a stage in this process on a real store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = 0

    def run(
        self,
        stage: Stage,
        answer: Callable[[Request], Answer] | None = None,
        *,
        seed: int = 5,
        iteration: int = 1,
        models: Mapping[str, ModelRef] = MODELS,
        **inputs: Sequence[Record],
    ) -> list[Any]:
        self.runs += 1
        entry = Store(self.path).entry("rows", str(self.runs))
        entry.path.mkdir(parents=True)
        self.sampler = Scripted(answer or script())
        ctx = Context(
            name="iteration-01/stage", iteration=iteration, seed=seed, entry=entry,
            inputs={slot: [Rows(rows)] for slot, rows in inputs.items()},
            models=dict(models), shared={}, stop=threading.Event(), send=lambda message: None,
        )  # fmt: skip
        ctx.shared = lambda key, make: self.sampler  # type: ignore[assignment, return-value]
        try:
            stage.run(ctx)
        finally:
            ctx.close()
        self.counts = ctx.counts
        record = Prompt if stage.OUTPUT == "prompts" else Trajectory
        return list(read_rows(entry.path / ROWS, record))

    @property
    def asked(self) -> list[Request]:
        return self.sampler.asked


def prompt(number: int = 0, text: str = "Write about tides.", *before: Message) -> Prompt:
    return Prompt(id=f"p{number}", messages=[*before, Message(role="user", content=text)])


def text_of(completion: str, number: int = 0, index: int = 0, **meta: Any) -> Trajectory:
    return Trajectory(
        prompt_id=f"p{number}", index=index, seed=1, completion=completion, finish="stop", tokens=2,
        policy="policy@1", meta=meta,
    )  # fmt: skip


_word = iter(range(10**9))


def words(count: int) -> str:
    """A sentence of words that never come again."""
    return " ".join(f"w{next(_word)}" for _ in range(count)) + "."
