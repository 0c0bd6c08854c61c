"""`upo.noise`: shares of noisy pairs, the estimator's accuracy, where the truth comes from."""

from __future__ import annotations

import random
from typing import Any

import pytest

from itercli.papers.upo.noise import Noise
from itercli.papers.upo.truth import noted
from itercli.preference.selection import widest
from itercli.preference.uncertainty import bald, vote
from itercli.records import Message, PreferencePair, Prompt, Score
from itercli.registry import register
from itercli.stages.base import StageError
from itercli.stages.pair import Pair
from itercli.verifiers.base import Scorer
from tests.stages.context import Context, run


@register("scorer", "test.number")
class Number(Scorer):
    """The number that a text is."""

    def open(self) -> Number:
        return self

    def score(self, prompt: Any, trajectory: Any) -> Score:
        return Score(
            prompt_id=prompt.id, index=0, completion="", policy="", value=float(trajectory.completion)
        )  # fmt: skip

    def close(self) -> None:
        pass


def made(prompt: str, index: int = 0, **fields: Any) -> PreferencePair:
    return PreferencePair(**{
        "prompt_id": prompt, "index": index, "messages": [Message(role="user", content=prompt)],
        "chosen": "1", "rejected": "0",
    } | fields)  # fmt: skip


def seen(probability: float, spread: float = 0.0) -> dict[str, Any]:
    passes = [(p, 1 - p) for p in (probability - spread, probability + spread)]
    return {"probabilities": passes, "bald": bald(passes), "vote": vote(passes)}


def world(prompts: int = 60, answers: int = 4) -> list[PreferencePair]:
    """A noisy reward orders true values; the estimator is right, and sure, where they differ much."""
    rng = random.Random(5)
    pairs = []
    for p in range(prompts):
        values = [rng.random() for _ in range(answers)]
        scored = sorted(((v + rng.gauss(0, 0.3), v) for v in values), reverse=True)
        orders = [(a, b) for i, a in enumerate(scored) for b in scored[i + 1 :]]
        for n, ((r1, v1), (r2, v2)) in enumerate(orders):
            belief = min(max(0.5 + 0.5 * (v1 - v2) + rng.gauss(0, 0.1), 0.03), 0.97)
            spread = 0.4 * min(belief, 1 - belief)
            pairs.append(
                made(f"p{p}", n, chosen=str(v1), rejected=str(v2), rewards=(r1, r2), **seen(belief, spread))
            )
    return pairs


def measured(pairs: list[PreferencePair], seed: int = 0, **options: Any) -> Context:
    return run(Noise(of="estimate", **options), seed, of=pairs, prompts=[])


def test_shares_by_hand() -> None:
    # Truth: a is right, b is wrong, c is equal, both pairs of d disagree among themselves.
    pairs = [
        made("a", 0, **seen(0.9)),
        made("b", 0, chosen="0", rejected="1", **seen(0.8)),
        made("c", 0, chosen="1", rejected="1.0", **seen(0.8)),
        made("d", 0, **seen(0.2)),
        made("d", 1, chosen="0", rejected="1", **seen(0.3)),
    ]
    metrics = measured(pairs, scorer="test.number").metrics
    assert (metrics["pairs"], metrics["truth_ties"]) == (5, 1)
    assert metrics["noise_all"]["value"] == pytest.approx((0 + 1 + 0.5) / 3)  # prompts count alike
    assert metrics["noise_all"]["prompts"] == 3
    assert metrics["noise_agreed"]["value"] == 0.5  # a and b; the estimator votes both of d down
    assert metrics["estimator_accuracy"]["value"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert "swap_consistency" not in metrics
    swaps = [p.model_copy(update={"meta": {"swap_consistent": n != 0}}) for n, p in enumerate(pairs)]
    assert measured(swaps, scorer="test.number").metrics["swap_consistency"]["value"] == 0.75


def test_an_estimator_that_knows_finds_the_cleaner_pairs() -> None:
    found = measured(world(), scorer="test.number")
    noise = {k: v["value"] for k, v in found.metrics.items() if k.startswith("noise")}
    assert noise["noise_uncertainty"] < noise["noise_random"] - 0.05
    assert noise["noise_random"] == pytest.approx(noise["noise_all"], abs=0.06)
    assert noise["noise_margin"] < noise["noise_random"]
    assert noise["noise_agreed"] < noise["noise_all"]
    assert all(v["low"] < v["value"] < v["high"] for k, v in found.metrics.items() if k.startswith("noise"))
    assert found.metrics["accuracy_sure"]["value"] > found.metrics["accuracy_unsure"]["value"]
    table = found.files["noise.json"]
    bins = table["bald"]
    assert (len(bins), sum(b["pairs"] for b in bins)) == (10, 360)
    assert [b["bald"][0] for b in bins] == sorted(b["bald"][0] for b in bins)
    kept = {name: of["kept"] for name, of in table["selections"].items()}
    assert kept.keys() == {"uncertainty", "random", "margin", "cb_rr"}
    assert len(set(kept.values())) == 1
    assert set(table["selections"]["uncertainty"]["kinds"]) == {"easy", "hard", "margin"}


def test_margin_keeps_the_widest_pair_of_each_prompt() -> None:
    # With all agreed pairs drawn, as many pairs are kept as there are prompts: no chance is left.
    pairs = world()
    metrics = measured(pairs, scorer="test.number", easy=1, hard=0, disagreement=False, draws=2).metrics
    kept = [pairs[i] for i in widest(pairs, range(len(pairs)))]
    wrong = sum(float(p.chosen) < float(p.rejected) for p in kept)
    assert wrong > 0
    assert metrics["noise_margin"]["value"] == pytest.approx(wrong / len(kept))


def test_few_pairs_are_looked_at_by_fifths_and_fewer_not_at_all() -> None:
    assert len(measured(world(10), scorer="test.number").files["noise.json"]["bald"]) == 5
    few = measured(world()[:4], scorer="test.number")
    assert few.files["noise.json"]["bald"] == []
    assert "accuracy_sure" not in few.metrics


def test_without_an_estimator_the_other_selections_are_measured() -> None:
    bare = [p.model_copy(update={"probabilities": [], "bald": None, "vote": None}) for p in world()]
    found = measured(bare, scorer="test.number")
    assert found.files["noise.json"]["selections"].keys() == {"random", "margin", "cb_rr"}
    assert not any(name.startswith(("estimator", "accuracy", "noise_unc")) for name in found.metrics)
    unrewarded = [p.model_copy(update={"rewards": None}) for p in bare]
    assert measured(unrewarded, scorer="test.number").files["noise.json"]["selections"].keys() == {"random"}


def test_pairs_may_tell_the_truth_themselves() -> None:
    pairs = [
        made(f"p{i}", meta=meta)
        for i, meta in enumerate([{"flipped": True}, {"flipped": False}, {"truth": [0.2, 0.9]}, {}])
    ]
    assert [noted(p) for p in pairs] == [-1.0, 1.0, pytest.approx(-0.7), None]
    assert measured(pairs).metrics["noise_all"]["value"] == pytest.approx(2 / 3)
    with pytest.raises(StageError, match=r"here: no pair says what is true.*`scorer:`"):
        measured([made("p")])
    with pytest.raises(StageError, match="prefers neither answer in any pair of estimate"):
        measured([made("p", meta={"truth": [1, 1]})])


def test_same_seed_same_numbers() -> None:
    first, again = (measured(world(), 3, scorer="test.number", draws=3) for _ in range(2))
    assert (first.metrics, first.files) == (again.metrics, again.files)
    other = measured(world(), 4, scorer="test.number", draws=3)
    assert other.metrics["noise_random"] != first.metrics["noise_random"]


def test_injected_noise_is_found_again_and_margins_do_not_give_it_away() -> None:
    rng = random.Random(9)
    asked = [Prompt(id=f"p{i}", messages=[Message(role="user", content="?")]) for i in range(300)]
    scores = [
        Score(prompt_id=p.id, index=n, completion=f"{p.id} {n}", policy="p@0", value=rng.random())
        for p in asked
        for n in range(4)
    ]
    labelled = run(Pair(of="score", rule="all_ordered", noise=0.2), of=scores, prompts=asked).rows
    share = sum(p.meta["flipped"] for p in labelled) / len(labelled)
    metrics = measured(labelled, draws=5).metrics
    assert metrics["noise_all"]["value"] == pytest.approx(share)
    for selection in ("random", "margin", "cb_rr"):
        assert metrics[f"noise_{selection}"]["value"] == pytest.approx(0.2, abs=0.06)
