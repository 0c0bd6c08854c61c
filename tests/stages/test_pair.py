"""Stage `pair`: candidates, counts, seeds, injected noise, plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from itercli.engine.rows import read_rows
from itercli.engine.runs import all_runs
from itercli.records import Message, PreferencePair, Prompt, Score, Trajectory
from itercli.stages.pair import Pair
from itercli.stages.references import References
from tests.conftest import Project
from tests.recipe.test_plan import errors, toy
from tests.stages.context import Context, run


def prompts(*ids: str, reference: str | None = None) -> list[Prompt]:
    return [Prompt(id=i, messages=[Message(role="user", content=i)], reference=reference) for i in ids]


def scores(prompt: str, *answers: tuple[str, float], policy: str = "policy@1") -> list[Score]:
    return [
        Score(prompt_id=prompt, index=n, completion=text, policy=policy, value=value)
        for n, (text, value) in enumerate(answers)
    ]


def texts(prompt: str, *completions: str) -> list[Trajectory]:
    return [
        Trajectory(
            prompt_id=prompt, index=n, seed=0, completion=c, finish="stop", tokens=1, policy="policy@1"
        )
        for n, c in enumerate(completions)
    ]


def paired(asked: Sequence[Prompt], rows: Sequence[Any], *, seed: int = 0, **options: Any) -> Context:
    references = options.pop("scored_references", [])
    if references:
        options["references"] = "references"
    stage = Pair(of="score", **options)
    return run(stage, seed, of=rows, prompts=asked, references=references)


def many(count: int) -> tuple[list[Prompt], list[Score]]:
    """Prompts with six answers each."""
    asked = prompts(*(f"p{i}" for i in range(count)))
    return asked, [s for p in asked for s in scores(p.id, *((f"{p.id}-{n}", n / 10) for n in range(6)))]


def test_pairs_hold_rewards_sources_and_the_rule() -> None:
    made = paired(prompts("p"), scores("p", ("low", 0.1), ("high", 0.9), ("low", 0.1)))
    (pair,) = made.rows
    assert (pair.chosen, pair.rejected, pair.rewards) == ("high", "low", (0.9, 0.1))
    assert pair.margin == pytest.approx(0.8)
    assert (pair.sources, pair.origin, pair.kept) == (("policy@1", "policy@1"), "best_worst", True)
    assert pair.messages[0].content == "p"
    assert made.counts == {"same text or no score": 1}


def test_a_penalised_reward_orders_and_the_score_stays_on_record() -> None:
    rows = scores("p", ("x" * 100, 1.0), ("x" * 10, 0.95))
    (pair,) = paired(prompts("p"), rows, length_penalty=0.001).rows
    assert len(pair.chosen) == 10
    assert pair.rewards == (pytest.approx(0.94), pytest.approx(0.9))
    assert pair.meta == {"scores": [0.95, 1.0]}


def test_scored_references_are_candidates_others_are_not() -> None:
    asked = prompts("p", "q", reference="gold")
    own = [*scores("p", ("a", 0.5), ("b", 0.1)), *scores("q", ("a", 0.5), ("b", 0.1))]
    gold = scores("p", ("gold", 0.7), policy="someone")
    by_prompt = {r.prompt_id: r for r in paired(asked, own, scored_references=gold).rows}
    assert (by_prompt["p"].chosen, by_prompt["p"].sources) == ("gold", ("reference", "policy@1"))
    assert by_prompt["q"].chosen == "a"


def test_reference_answers_are_rows_like_drawn_ones() -> None:
    made = run(References(prompts="tasks"), prompts=[*prompts("p", reference="gold"), *prompts("q")])
    (row,) = made.rows
    assert (row.prompt_id, row.completion, row.policy) == ("p", "gold", "reference")
    assert made.counts == {"without a reference": 1}


def test_references_are_scored_and_paired_in_a_plan(project: Project) -> None:
    nodes = toy(
        project,
        before__gold={"uses": "references", "prompts": "tasks"},
        before__gold_score={"uses": "score", "of": "gold", "scorer": "toy"},
        loop__pair={"uses": "pair", "of": "score", "references": "gold_score"},
    ).nodes
    assert nodes["iteration-02/pair"].inputs == {
        "of": ["iteration-02/score"], "references": ["before/gold_score"], "prompts": ["before/tasks"],
    }  # fmt: skip


def test_all_ties_make_an_empty_artifact_with_counts() -> None:
    made = paired(prompts("p", "q"), scores("p", ("a", 1.0), ("b", 1.0), ("c", 1.0)), rule="all_ordered")
    assert made.rows == []
    assert made.counts == {"dropped: tie": 3, "prompts without a pair": 2}


@pytest.mark.parametrize(("rate", "alone"), [(1.0, False), (0.25, False), (1.0, True), (0.25, True)])
def test_candidates_are_kept_or_counted_as_dropped(rate: float, alone: bool) -> None:
    asked, rows = many(40)
    made = paired(asked, rows, rule="all_ordered", min_margin=0.15, sampling_rate=rate, one_per_prompt=alone)
    dropped = sum(n for name, n in made.counts.items() if name.startswith("dropped"))
    assert len(made.rows) + dropped == 40 * 15
    assert made.counts["dropped: margin"] == 40 * 5
    if alone:
        assert len({r.prompt_id for r in made.rows}) == len(made.rows) > 30
    elif rate < 1:
        assert 60 < len(made.rows) < 140


def test_what_is_drawn_depends_on_the_prompt_and_the_seed_alone() -> None:
    asked, rows = many(10)
    options: dict[str, Any] = {"rule": "all_ordered", "sampling_rate": 0.5, "noise": 0.3}
    whole = paired(asked, rows, **options).rows
    alone = paired(asked[3:4], [r for r in rows if r.prompt_id == "p3"], **options).rows
    assert alone == [r for r in whole if r.prompt_id == "p3"]
    assert paired(asked, rows, seed=1, **options).rows != whole


def test_noise_swaps_the_answers_of_its_share_of_pairs_and_hides_it_from_the_rewards() -> None:
    asked, rows = many(300)
    clean = paired(asked, rows, length_penalty=0.01).rows
    made = paired(asked, rows, length_penalty=0.01, noise=0.2)
    flipped = [n for n, r in enumerate(made.rows) if r.meta["flipped"]]
    assert made.counts == {"labels swapped": len(flipped)}
    assert 40 < len(flipped) < 80
    for n, (before, after) in enumerate(zip(clean, made.rows, strict=True)):
        assert after.rewards == before.rewards
        answers = (before.chosen, before.rejected)
        assert (after.chosen, after.rejected) == (answers[::-1] if n in flipped else answers)
        assert after.meta["truth"] == (before.meta["scores"][::-1] if n in flipped else before.meta["scores"])


def test_own_samples_lose_against_the_reference() -> None:
    asked = [*prompts("p", reference="gold"), *prompts("q")]
    rows = [*texts("p", "own", "gold", "own", "other"), *texts("q", "own")]
    made = paired(asked, rows, rule="reference_vs_own")
    assert [(r.chosen, r.rejected, r.sources, r.rewards) for r in made.rows] == [
        ("gold", "own", ("reference", "policy@1"), None),
        ("gold", "other", ("reference", "policy@1"), None),
    ]
    assert made.counts == {
        "dropped: same text": 1, "dropped: no reference": 1, "prompts without a pair": 1,
    }  # fmt: skip


def test_the_rule_decides_which_stage_may_feed_it(project: Project) -> None:
    spin = {"uses": "pair", "of": "sample", "rule": "reference_vs_own"}
    assert toy(project, loop__pair=spin).nodes["iteration-02/pair"].kind == "pairs"
    assert "needs scores" in errors(project, loop__pair={"uses": "pair", "of": "sample"})["loop.pair.of"]
    assert "needs trajectories" in errors(project, loop__pair={**spin, "of": "score"})["loop.pair.of"]
    found = errors(project, loop__pair={**spin, "length_penalty": 0.1})
    assert "without rewards" in found["loop.pair.length_penalty"]
    assert "same keys" in errors(project, loop__pair={"uses": "pair", "of": "all.score"})["loop.pair.of"]


def test_pairs_of_a_run(project: Project) -> None:
    project.run_toy("iterations=1", "loop.pair={uses: pair, of: score}", "loop.sample.n=6")
    run = all_runs(project.path / "runs")[0]
    entry = run.entry("iteration-01/pair")
    assert entry is not None
    assert entry.manifest is not None
    rows = list(read_rows(entry.path / "rows.parquet", PreferencePair))
    assert len(rows) + entry.manifest["counts"].get("prompts without a pair", 0) == 8
    assert rows
    assert all(r.rewards == (1.0, 0.0) for r in rows)
