"""What a metric is for each prompt, found in the rows that it was computed from.

A metrics artifact holds means. The values behind them are worked out again from its own rows,
or from the scores or episodes that feed it, and count only if their mean is the reported one:
so a metric that is computed in another way, by a plug-in say, is never paired wrongly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from itercli.engine.checked import Damaged, tell
from itercli.engine.rows import read_rows, read_table
from itercli.engine.runs import Run
from itercli.engine.store import ROWS, Entry
from itercli.recipe.seeds import digest
from itercli.records import Episode, Score
from itercli.report.rows import entry_of, stored_rows
from itercli.stages.base import StageError
from itercli.stages.clusters import cluster_fields, cluster_of
from itercli.stages.summary import Values, collect, pass_k
from itercli.stages.summary import prompt_values as by_metric

SCORE_FIELDS = ("prompt_id", "index", "value", "passed", "meta")


@dataclass(frozen=True)
class PromptValues:
    """A metric prompt by prompt.

    Attributes:
        values: Prompt id -> value; None where the prompt has none.
        first: Of pass@1 with several completions: whether each prompt's first one passed.
    """

    values: Values
    first: dict[str, bool] = field(default_factory=dict)

    @property
    def verdicts(self) -> dict[str, bool]:
        """Whether each prompt's first, or only, completion passed."""
        return self.first or {p: v == 1 for p, v in self.values.items() if v is not None}


class NodeValues:
    """The rows behind the metrics of one node; each file is read once."""

    def __init__(self, run: Run, node: str) -> None:
        self.run = run
        self.node = node
        self.entry = entry_of(run, node)
        self._manifest = self.entry.manifest or {}

    def find(self, metric: str, reported: Any) -> PromptValues | None:
        """The values whose mean is the reported one; None where no rows give it.

        Args:
            metric: Name inside the stage.
            reported: The stage's number, or its mapping with `value`.
        """
        reported = reported if isinstance(reported, dict) else {"value": reported}
        if reported["value"] is None:
            return None
        # `pass@1 T=0.2` is pass@1 of one of the score stages.
        for name in dict.fromkeys((metric, metric.partition(" T=")[0])):
            for candidate in self._candidates(name):
                known = [v for v in candidate.values.values() if v is not None]
                if len(known) != reported.get("prompts", len(known)) or not known:
                    continue
                if math.isclose(sum(known) / len(known), reported["value"], rel_tol=1e-9, abs_tol=1e-12):
                    return candidate
        return None

    @cached_property
    def prompt_keys(self) -> list[str]:
        """Keys of the prompts' artifacts."""
        return [made["key"] for made in self._manifest.get("inputs", {}).get("prompts", [])]

    @cached_property
    def prompts(self) -> dict[str, str]:
        """Prompt id -> digest of all that the prompt says, reference and test data included."""
        return {row["id"]: digest(row) for row in self._prompt_rows()}

    @cached_property
    def clusters(self) -> dict[str, str]:
        """Prompt id -> cluster, as the stage took them for its intervals."""
        fields = cluster_fields(self._manifest.get("ingredients", {}).get("options", {}).get("cluster"))
        if not fields:
            return {}
        found = {row["id"]: cluster_of(row["meta"], fields) for row in self._prompt_rows()}
        return {i: cluster for i, cluster in found.items() if cluster is not None}

    def _prompt_rows(self) -> Iterator[dict[str, Any]]:
        for key in self.prompt_keys:
            yield from _readable(self.run.store.entry("prompts", key))

    def _candidates(self, metric: str) -> Iterator[PromptValues]:
        if (own := self._own(metric)) is not None:
            yield own
        for scores in self._scores:
            try:
                rows = collect(self.node, (metric,), scores).rows[metric]
                values = by_metric(self.node, metric, rows)
            except StageError:
                continue  # not a metric of these rows
            first: dict[str, bool] = {}
            if pass_k(metric) == 1 and any(len(numbers) > 1 for numbers in rows.values()):
                for score in sorted(scores, key=lambda s: s.index, reverse=True):
                    first[score.prompt_id] = bool(score.passed)
            yield PromptValues(values, first)
        if self._episodes:
            from itercli.stages.episodes import episode_values

            options = self._manifest.get("ingredients", {}).get("options", {})
            by_task = episode_values(metric, self._episodes, options.get("success_at", 1.0))
            if by_task is not None:
                yield PromptValues(dict(by_task))

    def _own(self, metric: str) -> PromptValues | None:
        """The mean over each prompt's rows of a column of that name."""
        numbers: dict[str, list[float | None]] = {}
        for row in self._own_rows:
            value = row.get(metric)
            if not isinstance(value, int | float | None) or metric not in row:
                return None
            numbers.setdefault(str(row["prompt_id"]), []).append(value)
        return (
            PromptValues(by_metric(self.node, metric, numbers))
            if numbers and pass_k(metric) is None
            else None
        )

    @cached_property
    def _own_rows(self) -> list[dict[str, Any]]:
        if not self._manifest.get("record"):
            return []
        try:
            rows = list(read_table(self.entry.file(ROWS)))
        except (Damaged, OSError, ValueError) as error:
            tell(f"{error}; prompts are not paired")
            return []
        return rows if rows and "prompt_id" in rows[0] else []

    @cached_property
    def _scores(self) -> list[list[Score]]:
        """Score rows of each stage that feeds this one, without their texts."""
        found = []
        for entry in self._feeding("scores"):
            try:
                rows = list(read_table(entry.file(ROWS), SCORE_FIELDS))
            except (Damaged, OSError, ValueError) as error:
                tell(f"{error}; prompts are not paired")
                continue
            scores = [
                Score.model_construct(**{**row, "meta": json.loads(row["meta"] or "{}")}) for row in rows
            ]
            found.append(scores)
        return found

    @cached_property
    def _episodes(self) -> list[Episode]:
        found: list[Episode] = []
        for entry in self._feeding("episodes"):
            try:
                found += read_rows(entry.file(ROWS), Episode)
            except (Damaged, OSError, ValueError) as error:
                tell(f"{error}; prompts are not paired")
                return []
        return found

    def _feeding(self, kind: str) -> list[Entry]:
        nodes = self.run.info["nodes"]
        needs = [i for i in nodes[self.node]["needs"] if i in nodes and nodes[i]["kind"] == kind]
        return [entry_of(self.run, i) for i in needs]


def _readable(entry: Entry) -> Iterator[dict[str, Any]]:
    try:
        yield from stored_rows(entry)
    except LookupError:
        return
