"""Which answer of a pair is truly better, where somebody knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from itercli.records import PreferencePair, Prompt, Trajectory
from itercli.stages.base import StageContext, StageError
from itercli.training.base import Interrupted
from itercli.verifiers.base import Scorer
from itercli.verifiers.contract import CheckedJudge, Unscored

Truth = float | None


def known(
    ctx: StageContext,
    pairs: Sequence[PreferencePair],
    prompts: Mapping[str, Prompt],
    scorer: Scorer | None,
) -> list[Truth]:
    """True reward of the chosen answer less that of the rejected one, for each pair.

    Args:
        scorer: The true reward; without one a pair's `meta` tells, and None is a pair that
            does not.

    Raises:
        StageError: No pair tells.
    """
    if scorer is None:
        found = [noted(pair) for pair in pairs]
        if all(t is None for t in found):
            raise StageError(
                f"{ctx.name}: no pair says what is true of it. Name the true reward as `scorer:`, or use "
                f"pairs with injected noise (`uses: pair`, `noise: 0.2`) or `truth` in their meta"
            )
        return found
    judge, scores = CheckedJudge(scorer.NAME, scorer.open()), dict[tuple[str, str], float]()
    try:
        for n, pair in enumerate(pairs, 1):
            if ctx.stopping():
                raise Interrupted
            prompt = prompts.get(pair.prompt_id) or Prompt(id=pair.prompt_id, messages=pair.messages)
            for text in (pair.chosen, pair.rejected):
                if (prompt.id, text) not in scores:
                    scores[prompt.id, text] = _score(judge, prompt, text)
            ctx.progress(n, len(pairs), "pairs")
    finally:
        judge.close()
    return [scores[p.prompt_id, p.chosen] - scores[p.prompt_id, p.rejected] for p in pairs]


def noted(pair: PreferencePair) -> Truth:
    """What `meta` says: `truth`, true rewards of (chosen, rejected), or `flipped`, a swapped label."""
    if "truth" in pair.meta:
        chosen, rejected = pair.meta["truth"]
        return float(chosen) - float(rejected)
    return None if "flipped" not in pair.meta else -1.0 if pair.meta["flipped"] else 1.0


def _score(judge: CheckedJudge, prompt: Prompt, text: str) -> float:
    answer = Trajectory(
        prompt_id=prompt.id, index=0, seed=0, completion=text, finish="stop", tokens=0, policy=""
    )
    row = judge.score(prompt, answer)
    if isinstance(row, Unscored):
        raise StageError(str(row))
    return row.value
