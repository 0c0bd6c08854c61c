"""A procedural family of small RTL design tasks with self-checking benches.

Everything is generated from templates with the standard library only: no files, no
downloads, the same tasks on every machine. Use it through the source `rtl_tasks` in a
recipe, or directly::

    prompts = list(RtlTasks(split="train", limit=256).prompts())

The answer that a model should give is the whole module, from the header to `endmodule`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from itercli.data.base import Source, hash_files
from itercli.data.rtl_tasks.bench import make_bench
from itercli.data.rtl_tasks.bugs import inject_bug
from itercli.data.rtl_tasks.collect import HELD_OUT_TEMPLATES, all_tasks, split_digest, splits
from itercli.data.rtl_tasks.task import TEMPLATES, TOP, Task, stable_hash
from itercli.recipe.seeds import digest
from itercli.records import Message, Prompt
from itercli.registry import register

__all__ = [
    "HELD_OUT_TEMPLATES",
    "TEMPLATES",
    "RtlTasks",
    "Split",
    "Task",
    "all_tasks",
    "inject_bug",
    "make_bench",
    "make_prompt",
    "split_digest",
    "splits",
]

Split = Literal["train", "dev", "test", "test_templates", "pretrain"]


def make_prompt(task: Task, wording: int, split: str, with_reference: bool = True) -> Prompt:
    """One task in one wording, with everything a verifier needs in `meta`."""
    wording %= len(task.wordings)
    bench, samples = make_bench(task)
    return Prompt(
        id=f"rtl/{task.id}/{wording}",
        messages=[Message(role="user", content=f"{task.wordings[wording]}\n{task.header}\n")],
        reference=task.code if with_reference else None,
        meta={
            "template": task.template,
            "family": task.family,
            "params": task.params,
            "split": split,
            "header": task.header,
            "top": TOP,
            "bench": bench,
            "samples": samples,
        },
    )


@register("source", "rtl_tasks")
class RtlTasks(Source):
    """Procedural RTL tasks.

    The splits are fixed and disjoint in (template, parameters), whatever the seed:
    `test_templates` holds whole templates that no other split sees, `pretrain` is what the
    shipped tiny model was trained on. The seed only chooses order, wordings and which
    prompts keep their reference.

    Attributes:
        limit: Number of prompts, None for all.
        wordings: How many of a task's wordings to use, each a prompt of its own.
        reference_fraction: Share of the prompts that keep their reference; the others can
            still be verified, each has its bench.
    """

    VERSION: ClassVar[int] = 1
    CLUSTER: ClassVar[str | None] = "template"

    split: Split = "train"
    limit: int | None = Field(default=None, ge=1)
    seed: int = 0
    wordings: int = Field(default=1, ge=1, le=3)
    reference_fraction: float = Field(default=1.0, ge=0.0, le=1.0)

    def prompts(self) -> Iterator[Prompt]:
        """The prompts, in an order drawn from the seed."""
        rng = random.Random(stable_hash("rtl_tasks", self.split, self.seed))
        chosen: list[tuple[Task, int]] = []
        for task in splits()[self.split]:
            chosen += [(task, w) for w in rng.sample(range(len(task.wordings)), self.wordings)]
        rng.shuffle(chosen)
        chosen = chosen[: self.limit]
        keep = round(self.reference_fraction * len(chosen))
        # Its own ranking, so that a larger fraction keeps what a smaller one kept.
        ranked = sorted(chosen, key=lambda c: stable_hash("reference", self.seed, c[0].id, c[1]))
        kept = {(task.id, w) for task, w in ranked[:keep]}
        for task, w in chosen:
            yield make_prompt(task, w, self.split, (task.id, w) in kept)

    def fingerprint(self) -> dict[str, str]:
        """What besides the options determines the content: this package's files.

        `split_digest` would say it more exactly, but takes 0.3 s, which every plan would pay.
        """
        files = hash_files(sorted(Path(__file__).parent.glob("*.py")))
        return {"rtl_tasks": digest(files)}
