"""Which pairs are trusted: counts, reasons, baselines of the same size."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from itercli.preference.selection import Mixing, Pool, Selection, select, widest
from itercli.records import Message, PreferencePair

ALL: tuple[Selection, ...] = ("uncertainty", "random", "margin", "cb_rr", "none")


def pair(
    prompt: str, index: int = 0, rewards: tuple[float, float] = (1.0, 0.0), bald: float | None = 0.1,
    vote: float | None = 1.0,
) -> PreferencePair:  # fmt: skip
    return PreferencePair(
        prompt_id=prompt, index=index, messages=[Message(role="user", content=prompt)],
        chosen=f"{prompt} {rewards[0]}", rejected=f"{prompt} {rewards[1]}", rewards=rewards,
        bald=bald, vote=vote,
    )  # fmt: skip


def pool(prompts: int = 40, answers: int = 4, labelled: int = 20, *, estimated: bool = True) -> Pool:
    """All ordered pairs of each prompt's answers, every fifth one voted down; labelled ones apart."""
    rng = random.Random(7)
    pairs = []
    for p in range(prompts):
        rewards = sorted((rng.random() for _ in range(answers)), reverse=True)
        orders = [(a, b) for i, a in enumerate(rewards) for b in rewards[i + 1 :]]
        for n, order in enumerate(orders):
            seen = (rng.random() * 0.69, 0.2 if len(pairs) % 5 == 0 else 0.8) if estimated else (None, None)
            pairs.append(pair(f"p{p}", n, order, *seen))
    own = range(len(pairs))
    pairs += [pair(f"labelled{i}", 0, (1, 0), None, None) for i in range(labelled)]
    return Pool(pairs, own, widest(pairs, own), range(len(own), len(pairs)))


@pytest.mark.parametrize("selection", ALL)
@pytest.mark.parametrize("one", [True, False])
def test_nothing_is_lost_and_prompts_come_once(selection: Selection, one: bool) -> None:
    of = pool()
    found = select(of, selection, Mixing(one_per_prompt=one), 3)
    assert len(found) == len(of.pairs)
    assert all(v.reason for v in found)
    kept = Counter(p.prompt_id for p, v in zip(of.pairs, found, strict=True) if v.kept)
    assert kept
    assert max(kept.values()) == 1 or not one
    assert found == select(of, selection, Mixing(one_per_prompt=one), 3)
    if selection != "margin":
        assert found != select(of, selection, Mixing(one_per_prompt=one), 4)


def test_the_mix_has_its_shares() -> None:
    # One pair of each of 100 prompts, 20 voted down: 80 agreed, 40 easy, 40 hard of which 8, 24 margins.
    pairs = [pair(f"p{i}", vote=0.4 if i < 20 else 0.5, bald=0.3) for i in range(100)]
    pairs += [pair(f"l{i}", bald=None, vote=None) for i in range(50)]
    of = Pool(pairs, range(100), range(100), range(100, 150))
    apart = select(of, "uncertainty", Mixing(hard=0, margin_share=0), 0)
    assert Counter(v.reason for v in apart) == {
        "disagreement": 20, "easy": 40, "labelled": 20, "not drawn": 40 + 30,
    }  # fmt: skip
    assert [v.reason for v in apart[:20]] == ["disagreement"] * 20
    hard = Counter(v.reason for v in select(of, "uncertainty", Mixing(easy=0, margin_share=0), 0))
    assert (hard["hard"], hard["hard, not in the mix"]) == (8, 32)
    margins = Counter(v.reason for v in select(of, "uncertainty", Mixing(easy=0, hard=0), 0))
    assert (margins["margin"], margins["not drawn"]) == (24, 56 + 30)
    none = select(of, "uncertainty", Mixing(disagreement=False, easy=1, hard=0, margin_share=0), 0)
    assert Counter(v.reason for v in none)["easy"] == 100


def test_easy_pairs_are_surer_than_hard_ones() -> None:
    rng = random.Random(1)  # not the selection's seed, or it would draw the same numbers
    pairs = [pair(f"p{i}", bald=rng.random() * 0.69) for i in range(600)]
    of = Pool(pairs, range(600))

    def mean_bald(mixing: Mixing, reason: str) -> float:
        found = [p.bald for p, v in zip(pairs, select(of, "uncertainty", mixing, 0), strict=True) if
                 v.reason == reason]  # fmt: skip
        return sum(b for b in found if b is not None) / len(found)

    plain = mean_bald(Mixing(hard=0, easy=0.3), "easy")
    assert mean_bald(Mixing(hard=0, easy=0.3, mu=20), "easy") < plain - 0.1
    assert plain < 0.345 < mean_bald(Mixing(easy=0, hard=0.3, hard_share=1), "hard") - 0.05


@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("estimated", [True, False])
def test_baselines_keep_as_many_pairs_of_the_loop_beside_the_same_labelled_ones(
    one: bool, estimated: bool
) -> None:
    of, mixing = pool(estimated=estimated), Mixing(one_per_prompt=one)
    trusted = select(of, "uncertainty", mixing, 5)
    for selection in ("random", "margin", "cb_rr"):
        found = select(of, selection, mixing, 5)
        there = 20 * 0.4 + 40 * 3 if selection == "cb_rr" else len(of.pairs)  # a best answer has 3 pairs
        assert sum(v.kept for v in found) == min(sum(v.kept for v in trusted), there)
        assert {v.reason for v in found if v.kept} == {"labelled", selection}
        assert [v.kept for v in found[-20:]] == [v.kept for v in trusted[-20:]]


def test_margin_takes_the_largest_and_cb_rr_the_best_answers() -> None:
    of = pool(labelled=0)
    margins = select(of, "margin", Mixing(), 0)
    kept = [i for i, v in enumerate(margins) if v.kept]
    assert set(kept) <= set(of.margins)
    size = [of.pairs[i].margin or 0 for i in kept]
    assert min(size) >= max(of.pairs[i].margin or 0 for i in set(of.margins) - set(kept))
    best = {p.prompt_id: p.chosen for p in reversed(of.pairs)}
    chosen = [p for p, v in zip(of.pairs, select(of, "cb_rr", Mixing(), 0), strict=True) if v.kept]
    assert all(p.chosen == best[p.prompt_id] for p in chosen)
    assert len({p.index for p in chosen}) == 3  # against any of the rest


def test_baselines_do_not_look_at_the_estimator() -> None:
    of = pool(labelled=0)
    kept = [p for p, v in zip(of.pairs, select(of, "random", Mixing(), 0), strict=True) if v.kept]
    assert any(p.vote == 0.2 for p in kept)
    everything = select(of, "none", Mixing(one_per_prompt=False), 0)
    assert all(v.kept and v.reason == "none" for v in everything)


def test_the_widest_pair_of_each_prompt() -> None:
    rewards = {"a": [(0.5, 0.4), (0.9, 0.1)], "b": [(0.3, 0.2), (0.5, 0.1)]}
    pairs = [pair(prompt, n, each) for prompt, of in rewards.items() for n, each in enumerate(of)]
    assert widest(pairs, range(4)) == [1, 3]
    assert widest(pairs, [0, 2]) == [0, 2]
