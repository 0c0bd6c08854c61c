"""Source `instructions`: our own instructions to write a text, in two languages.

Two kinds: long texts (essays, guides, stories, reports, plans) for models that can write
them, and single paragraphs for small models on a CPU. None asks for a number of words. Seeds
are what self-instruction starts from; held-out ones have other topics, so that a policy can be
measured on what it was not fed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from itercli.data.base import Source, hash_files, read_jsonl
from itercli.records import Message, Prompt
from itercli.registry import register


@register("source", "instructions")
class Instructions(Source):
    """Shipped instructions of each kind: 16 English and 10 Chinese seeds, 48 and 16 held out.

    Attributes:
        limit: Number of prompts, None for all.
    """

    VERSION: ClassVar[int] = 1

    kind: Literal["long", "paragraph"] = "long"
    split: Literal["seeds", "heldout"] = "seeds"
    language: Literal["en", "zh"] = "en"
    limit: int | None = Field(None, ge=1)

    @property
    def path(self) -> Path:
        """The file with the instructions."""
        return Path(__file__).parent / f"{self.kind}_{self.split}_{self.language}.jsonl"

    def prompts(self) -> Iterator[Prompt]:
        for _, row in islice(read_jsonl(self.path), self.limit):
            yield Prompt(
                id=row["id"],
                messages=[Message(role="user", content=row["prompt"])],
                meta={"language": self.language, "split": self.split},
            )

    def fingerprint(self) -> dict[str, str]:
        return hash_files([self.path])
