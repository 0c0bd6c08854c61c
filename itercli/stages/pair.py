"""Stage `pair`: from rewarded answers to preference pairs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

from pydantic import Field

from itercli.preference.rules import Candidate, Rule, paired, ranked
from itercli.recipe.seeds import seed_for
from itercli.records import PreferencePair, Prompt, Score, Trajectory
from itercli.registry import register
from itercli.stages.base import Artifact, Link, Stage, StageContext
from itercli.stages.carrying import Texts
from itercli.stages.references import REFERENCE

OWN = "reference_vs_own"


@register("stage", "pair")
class Pair(Stage):
    """Pairs the answers to each prompt; ties and what the options leave out are counted.

    Answers with the same text count once. All that is random (drawn pairs, injected noise)
    depends on the prompt's id and not on the other prompts.
    """

    OUTPUT = "pairs"
    SEEDED = True
    WITH_PROMPTS = True
    NEEDS_EVERY = False

    uses: Literal["pair"] = "pair"
    of: str = Field(
        description=f"The stage with the answers: scores; trajectories with `rule: {OWN}`, which needs none."
    )
    rule: Rule | Literal["reference_vs_own"] = Field(
        "best_worst", description="Which answers are compared; the better one is chosen."
    )
    references: str | None = Field(
        None,
        description="A stage with scores of the prompts' reference answers (`uses: references`), which are "
        "then candidates too.",
    )
    length_penalty: float = Field(0.0, ge=0, description="Taken off the reward for each character.")
    min_margin: float = Field(0.0, ge=0, description="Smallest difference of rewards.")
    sampling_rate: float = Field(1.0, gt=0, le=1, description="Chance of each pair to be kept.")
    one_per_prompt: bool = Field(False, description="Keep one pair of each prompt, by chance.")
    noise: float = Field(
        0.0, ge=0, le=1, description="Share of pairs whose labels are swapped, to study label noise."
    )

    def links(self, name: str) -> list[Link]:
        links = [Link("of", self.of, ("trajectories" if self.rule == OWN else "scores",), "of")]
        if self.references is not None:
            links.append(Link("references", self.references, ("scores",), "references"))
        return links

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["of"], params["references"]
        return params

    def check(self) -> list[tuple[str, str, str]]:
        problems = []
        for key, ref in (("of", self.of), ("references", self.references or "")):
            if ref.startswith("all."):
                problems.append((key, "rows of several iterations have the same keys", "one stage"))
        if self.rule == OWN:
            rewards = {"references", "length_penalty", "min_margin"} & self.model_fields_set
            problems += [
                (key, f"`rule: {OWN}` compares without rewards", f"one of {', '.join(get_args(Rule))}")
                for key in sorted(rewards)
            ]
        return problems

    def needs(self) -> tuple[str, ...]:
        return ("Prompt.reference",) if self.rule == OWN else ()

    def run(self, ctx: StageContext) -> None:
        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        answers = _answers(ctx.inputs["of"], Trajectory if self.rule == OWN else Score)
        references = _answers(ctx.inputs.get("references", []), Score)
        texts = Texts(row for found in (answers, references) for group in found.values() for row in group)
        counts: Counter[str] = Counter()
        rows: list[PreferencePair] = []
        for n, prompt in enumerate(prompts.values(), 1):
            ctx.progress(n, len(prompts), "prompts")
            own = answers.get(prompt.id, [])
            if self.rule == OWN:
                made, dropped = _against_reference(prompt, own)
            else:
                scored = [(r.completion, r.value, r.policy) for r in own]
                scored += [(r.completion, r.value, REFERENCE) for r in references.get(prompt.id, [])]
                candidates = ranked(scored, self.length_penalty)
                counts["same text or no score"] += len(scored) - len(candidates)
                rng = random.Random(seed_for(ctx.seed, prompt.id, "rule"))
                pairs, dropped = paired(self.rule, candidates, rng, min_margin=self.min_margin)  # type: ignore[arg-type]
                made = [_pair(prompt, self.rule, chosen, rejected) for chosen, rejected in pairs]
            for reason, number in dropped.items():
                counts[f"dropped: {reason}"] += number
            kept = self._drawn(made, seed_for(ctx.seed, prompt.id, "draw"))
            counts["dropped: not drawn"] += len(made) - len(kept)
            counts["prompts without a pair"] += not kept
            for index, pair in enumerate(kept):
                row = texts.into(pair.model_copy(update={"index": index}))
                rows.append(self._noisy(row, ctx.seed) if self.noise else row)
        if self.noise:
            counts["labels swapped"] = sum(row.meta["flipped"] for row in rows)
        ctx.finish_rows(PreferencePair, iter(rows), **{k: v for k, v in counts.items() if v})

    def _drawn(self, pairs: Sequence[PreferencePair], seed: int) -> list[PreferencePair]:
        rng = random.Random(seed)
        kept = [pair for pair in pairs if rng.random() < self.sampling_rate]
        return [rng.choice(kept)] if kept and self.one_per_prompt else kept

    def _noisy(self, pair: PreferencePair, seed: int) -> PreferencePair:
        """As a labeller who errs gives it: `meta` has the truth, rewards are what the label claims.

        Rewards that moved with their answers would tell a selection by margin which labels are wrong.
        """
        flip = random.Random(seed_for(seed, *pair.key, "noise")).random() < self.noise
        meta: dict[str, Any] = pair.meta | {"flipped": flip}
        turn = -1 if flip else 1
        if pair.rewards is not None:
            meta["truth"] = list(pair.meta.get("scores", pair.rewards))[::turn]
        labelled = pair.swapped() if flip else pair
        return labelled.model_copy(update={"meta": meta})


def _answers(artifacts: Iterable[Artifact], record: type[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for artifact in artifacts:
        for row in artifact.rows(record):
            found.setdefault(row.prompt_id, []).append(row)
    return found


def _pair(prompt: Prompt, rule: str, chosen: Candidate, rejected: Candidate) -> PreferencePair:
    scores = (chosen.score, rejected.score)
    rewards = (chosen.reward, rejected.reward)
    return PreferencePair(
        prompt_id=prompt.id,
        messages=prompt.messages,
        chosen=chosen.text,
        rejected=rejected.text,
        sources=(chosen.source, rejected.source),
        origin=rule,
        rewards=rewards,
        meta={} if scores == rewards else {"scores": list(scores)},
    )


def _against_reference(
    prompt: Prompt, own: Sequence[Trajectory]
) -> tuple[list[PreferencePair], dict[str, int]]:
    """The reference answer against each distinct own one (SPIN, arXiv 2401.01335)."""
    texts = {t.completion: t.policy for t in reversed(own) if t.finish != "error"}
    if prompt.reference is None:
        return [], {"no reference": len(texts)}
    same = texts.pop(prompt.reference, None) is not None
    pairs = [
        PreferencePair(
            prompt_id=prompt.id,
            messages=prompt.messages,
            chosen=prompt.reference,
            rejected=text,
            sources=(REFERENCE, policy),
            origin=OWN,
        )
        for text, policy in reversed(texts.items())
    ]
    return pairs, {"same text": int(same)}
