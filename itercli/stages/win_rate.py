"""Stage `win_rate`: how often one policy's answers beat another's, and how much longer they are.

Both sides answered the same prompts and were scored by the same scorer; a loop compares each
version with the start model by `against: before.evaluate.score`. Score with something that
the loop was not trained on, or over-optimisation looks like progress.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from pydantic import Field

from itercli.records import Prompt, Record, Score, Trajectory
from itercli.registry import register
from itercli.stages.base import Artifact, Link, StageContext, StageError
from itercli.stages.summary import SummaryStage, Values

OF_PREFERENCES = ("win_rate", "lc_win_rate", "characters", "characters_against")
Metric = Literal[
    "win_rate",
    "lc_win_rate",
    "penalised_win_rate",
    "reward_gain",
    "mean_reward",
    "mean_reward_against",
    "characters",
    "characters_against",
]


class Comparison(Record):
    """One prompt's answers beside those of the other side.

    Attributes:
        win_rate: Share of pairs of completions that are won, ties half.
        penalised_win_rate: The same of rewards less the length penalty.
        mean_reward, mean_reward_against: Mean over its completions; None of preferences.
        reward_gain: Difference of the two.
        characters, characters_against: Mean length of its completions.
    """

    prompt_id: str
    win_rate: float
    penalised_win_rate: float | None = None
    reward_gain: float | None = None
    mean_reward: float | None = None
    mean_reward_against: float | None = None
    characters: float
    characters_against: float


@register("stage", "win_rate")
class WinRate(SummaryStage):
    """Compares two policies prompt by prompt; `verifiers.win_rate` has the formulas.

    Rewards of both sides are compared here (`against`), or `of` holds preferences over the
    other side's completions, row by row, as `judge_pairs` gives them (`judged_against`).
    """

    uses: Literal["win_rate"] = "win_rate"
    of: str = Field(description="The stage with the scores, for example evaluate.score.")
    against: str | None = Field(
        None, description="The other side's scores, for example before.evaluate.score."
    )
    judged_against: str | None = Field(
        None, description="Instead: the completions over which the values of `of` are preferences (0 to 1)."
    )
    length_penalty: float = Field(
        0.0, ge=0, description="Reward lost per character, for the metric penalised_win_rate."
    )
    metrics: tuple[Metric, ...] = Field(
        ("win_rate", "lc_win_rate", "reward_gain", "mean_reward", "characters", "characters_against"),
        min_length=1,
        description="What is reported; lc_win_rate is the win rate at equal length.",
    )

    def links(self, name: str) -> list[Link]:
        links = [Link("of", self.of, ("scores",), "of")]
        if self.against:
            links.append(Link("against", self.against, ("scores",), "against"))
        if self.judged_against:
            links.append(Link("texts", self.judged_against, ("trajectories",), "judged_against"))
        return links

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["of"], params["against"], params["judged_against"]
        return params

    def check(self) -> list[tuple[str, str, str]]:
        problems = []
        for key in ("of", "against", "judged_against"):
            if str(getattr(self, key)).startswith("all."):
                problems.append((key, "rows of several iterations have the same keys", "one stage"))
        if self.against == self.of:
            problems.append(("against", "the scores would be compared with themselves", "another stage"))
        if bool(self.against) == bool(self.judged_against):
            what = "nothing to compare with" if not self.against else "two things to compare with"
            problems.append(("against", what, "scores as `against`, or completions as `judged_against`"))
        if ("penalised_win_rate" in self.metrics) != (self.length_penalty > 0):
            what = "length_penalty and the metric penalised_win_rate go together"
            problems.append(("length_penalty", what, "both, or neither"))
        elif self.judged_against and (rewards := set(self.metrics).difference(OF_PREFERENCES)):
            what = f"preferences have no rewards, so no {', '.join(sorted(rewards))}"
            problems.append(("metrics", what, ", ".join(OF_PREFERENCES)))
        return problems

    def run(self, ctx: StageContext) -> None:
        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        counts: Counter[str] = Counter()
        compare = self._compared if self.against else self._judged
        rows = sorted(compare(ctx, counts), key=lambda row: row.prompt_id)
        if not rows:
            other = self.against or self.judged_against
            raise StageError(
                f"{ctx.name}: {self.of} and {other} have no scored prompt in common ({dict(counts)}); give "
                "both sides the same prompts. In the first iteration `previous.` is empty unless a stage of "
                "that name is under `before:`"
            )
        values: dict[str, Values] = {
            name: {row.prompt_id: getattr(row, name) for row in rows}
            for name in self.metrics
            if name != "lc_win_rate"
        }
        clusters = self.clusters_of(ctx.name, prompts.values())
        result: dict[str, Any] = dict.fromkeys(self.metrics)  # in their order
        result |= {name: self.mean(of, ctx.seed, clusters) for name, of in values.items()}
        if "lc_win_rate" in result:
            result["lc_win_rate"] = self._length_controlled(rows, counts, ctx.seed, clusters)
        if values:
            groups = self.table(values, prompts.values(), ctx.seed, clusters)
            ctx.finish_file("groups.json", {"by": self.by, "groups": groups})
        ctx.finish_rows(Comparison, iter(rows), **counts)
        ctx.finish_metrics(result)

    def _compared(self, ctx: StageContext, counts: Counter[str]) -> Iterable[Comparison]:
        from itercli.verifiers.win_rate import preference

        ours, theirs = (_by_prompt(ctx.inputs[slot], counts) for slot in ("of", "against"))
        counts["prompts of one side only"] = len(ours.keys() ^ theirs.keys())
        for prompt in ours.keys() & theirs.keys():
            sides = (ours[prompt], theirs[prompt])
            rewards = [[s.value for s in side] for side in sides]
            penalised = [[s.value - self.length_penalty * len(s.completion) for s in side] for side in sides]
            mean, other = (_mean(r) for r in rewards)
            yield Comparison(
                prompt_id=prompt,
                win_rate=preference(*rewards),
                penalised_win_rate=preference(*penalised) if self.length_penalty else None,
                reward_gain=mean - other,
                mean_reward=mean,
                mean_reward_against=other,
                characters=_mean([len(s.completion) for s in sides[0]]),
                characters_against=_mean([len(s.completion) for s in sides[1]]),
            )

    def _judged(self, ctx: StageContext, counts: Counter[str]) -> Iterable[Comparison]:
        texts = {t.key: len(t.completion) for a in ctx.inputs["texts"] for t in a.rows(Trajectory)}
        for prompt, scores in _by_prompt(ctx.inputs["of"], counts).items():
            judged = [s for s in scores if s.key in texts]
            counts["scores without a text"] += len(scores) - len(judged)
            for score in judged:
                if not 0 <= score.value <= 1:
                    raise StageError(
                        f"{ctx.name}: {self.of} gives {score.value:g} to a completion of prompt {prompt}, "
                        "which is no preference in 0 to 1; compare rewards by `against: SCORES` instead"
                    )
            if judged:
                yield Comparison(
                    prompt_id=prompt,
                    win_rate=_mean([s.value for s in judged]),
                    characters=_mean([len(s.completion) for s in judged]),
                    characters_against=_mean([texts[s.key] for s in judged]),
                )

    def _length_controlled(
        self, rows: Sequence[Comparison], counts: Counter[str], seed: int, clusters: Mapping[str, str]
    ) -> dict[str, Any]:
        """The metric, with how it was fitted; what was special about that is counted, too."""
        from itercli.verifiers.intervals import in_clusters
        from itercli.verifiers.win_rate import length_controlled

        groups = in_clusters((row.prompt_id for row in rows), clusters)
        found = length_controlled(
            [row.win_rate for row in rows],
            [row.characters - row.characters_against for row in rows],
            clusters=groups,
            confidence=self.confidence,
            resamples=self.resamples,
            seed=seed,
        )
        if found.fit != "ml":
            counts[f"lc_win_rate: {found.fit}"] = 1
        return asdict(found) | {"prompts": len(rows)} | ({"clusters": len(set(groups))} if clusters else {})


def _by_prompt(artifacts: Iterable[Artifact], counts: Counter[str]) -> dict[str, list[Score]]:
    """Scores by prompt, those without a number left out and counted."""
    prompts: dict[str, list[Score]] = defaultdict(list)
    for score in (s for a in artifacts for s in a.rows(Score)):
        if math.isfinite(score.value):
            prompts[score.prompt_id].append(score)
        else:
            counts["scores that are no number"] += 1
    return prompts


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
