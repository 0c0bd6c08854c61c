"""Source `several`: the prompts of several sources, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from itercli.data.base import Source
from itercli.recipe.fields import Source as SourceField
from itercli.records import Prompt
from itercli.registry import register


@register("source", "several")
class Several(Source):
    """Joins sources, so that one stage works on tasks of several environments.

    Attributes:
        of: The sources; the ids of their prompts must differ.
    """

    of: tuple[SourceField, ...] = Field(min_length=1)

    def prompts(self) -> Iterator[Prompt]:
        for source in self.of:
            yield from source.prompts()

    def clusters(self) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys(field for source in self.of for field in getattr(source, "clusters", tuple)())
        )

    def fingerprint(self) -> dict[str, str]:
        """Names get the position of their source, as two sources may read files of one name."""
        return {
            f"{n}/{name}": found
            for n, source in enumerate(self.of)
            for name, found in source.fingerprint().items()
        }
