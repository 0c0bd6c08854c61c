"""Clusters of prompts: which ones an interval resamples together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from itercli.records import Prompt
from itercli.stages.base import Stage, StageError

AUTO = "auto"


class Clustered(Stage):
    """Base of stages that report intervals over prompts."""

    cluster: str | tuple[str, ...] | None = Field(
        AUTO,
        description="Prompt meta field whose equal values make a cluster; intervals resample clusters, not "
        "prompts. Of several, the first that a prompt has; `a.b` is a field inside a field. auto: what the "
        "data's source declares; null: prompts are independent.",
    )

    def settled(self, prompts: Sequence[Stage]) -> dict[str, Any]:
        if self.cluster != AUTO:
            return {}
        fields = dict.fromkeys(field for stage in prompts for field in stage.clusters())
        return {"cluster": list(fields) or None}

    def clusters_of(self, name: str, prompts: Iterable[Prompt]) -> dict[str, str]:
        """Prompt id -> cluster; a prompt without the fields is in none.

        Args:
            name: The stage's, for the error message.

        Raises:
            StageError: No prompt has the field that the recipe names.
        """
        fields = cluster_fields(self.cluster)
        prompts = list(prompts)
        found = {p.id: c for p in prompts if (c := cluster_of(p.meta, fields)) is not None}
        if fields and prompts and not found:
            known = ", ".join(sorted({field for p in prompts for field in p.meta})) or "none"
            raise StageError(
                f"{name}: no prompt has a meta field {' or '.join(map(repr, fields))} to cluster by. "
                f"There are: {known}. Set `cluster` to one of them, or to null"
            )
        return found


def cluster_fields(given: Any) -> tuple[str, ...]:
    """The fields that an option `cluster` names."""
    if given is None or given == AUTO:
        return ()
    return (given,) if isinstance(given, str) else tuple(given)


def cluster_of(meta: Mapping[str, Any], fields: Iterable[str]) -> str | None:
    """The cluster that a prompt's meta puts it into, named by field and value; None: it has none."""
    for field in fields:
        value: Any = meta
        for part in field.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            return f"{field}={value}"
    return None
