"""Agent-R: pairs of paths, reading verdicts, splices."""

from __future__ import annotations

import random

import pytest

from itercli.papers.agent_r.pairs import Pair, PairRule, Path, path_to, paths, reaches
from itercli.papers.agent_r.splice import THOUGHTS, Draft, revise
from itercli.papers.agent_r.verdicts import WORDING, question, read
from itercli.records import Tree
from tests.papers.agent_r import tree_of

SIGNAL = "Thought: {thought}\nAction: {action}"
# Scores of the ends: 1, 2/3, 1/3, 0.
TREE = tree_of("201", "2 0 1", "2 0 2", "2 1 2", "0 1 2")


def by_actions(tree: Tree, actions: str) -> Path:
    return next(p for p in paths(tree) if [t.action for t in p.turns] == actions.split())


def named(pairs: list[Pair]) -> list[str]:
    return sorted(f"{'-'.join(t.action for t in p.good.turns)} {p.bad.score:.2f}" for p in pairs)


@pytest.mark.parametrize(
    ("alpha", "beta", "expected"),
    [
        (0.5, 0.2, ["2-0-1 0.00", "2-0-1 0.33", "2-0-1 0.67", "2-0-2 0.00", "2-0-2 0.33"]),
        (0.5, 1 / 3, ["2-0-1 0.00", "2-0-1 0.33", "2-0-2 0.00"]),
        (2 / 3, 0.2, ["2-0-1 0.00", "2-0-1 0.33", "2-0-1 0.67"]),
        (1.0, 0.2, ["2-0-1 0.00", "2-0-1 0.33", "2-0-1 0.67"]),  # "more than" would leave none
    ],
)
def test_every_two_leaves_far_enough_apart_are_a_pair(alpha: float, beta: float, expected: list[str]) -> None:
    found, counts = PairRule(beta=beta).pairs(TREE, alpha, seed=1)
    assert named(found) == expected
    # Every two leaves of different score are a pair or a reason.
    assert counts.total() == 6


def test_a_full_score_is_good_where_alpha_is_one() -> None:
    assert reaches(1.0, 1.0)
    assert reaches(sum([0.1] * 10), 1.0)
    assert not reaches(0.5, 0.5)


@pytest.mark.parametrize("options", [{"alpha": 50}, {"alpha": -0.1}, {"beta": 1}])
def test_thresholds_are_of_scores(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"alpha|beta"):
        PairRule(**options)  # type: ignore[arg-type]


def test_a_cap_draws_by_seed() -> None:
    rule = PairRule(alpha=0.5, max_pairs=2)
    found, counts = rule.pairs(TREE, 0.5, seed=1)
    assert (len(found), counts["dropped_over_cap"], counts["pairs"]) == (2, 3, 2)
    assert rule.pairs(TREE, 0.5, seed=1)[0] == found
    assert {tuple(named(rule.pairs(TREE, 0.5, seed=s)[0])) for s in range(20)} > {tuple(named(found))}


def test_a_cap_may_keep_the_shortest_good_paths() -> None:
    tree = tree_of("201", "2 0 1", "2 x 0 1", "2 x x 0 1", "x 0", "x x")
    rule = PairRule(alpha=0.5, max_pairs=2, over_cap="shortest")
    for seed in range(5):
        found, counts = rule.pairs(tree, 0.5, seed=seed)
        assert {len(pair.good.nodes) for pair in found} == {3}
        assert (counts["pairs"], counts["dropped_over_cap"]) == (2, 4)


def test_ends_without_a_final_score_are_no_paths() -> None:
    tree = tree_of("201", "2 0", "2 die", "0 1 2")
    nodes = [n.model_copy(update={"terminal": False}) if n.id == 2 else n for n in tree.nodes]
    assert [p.turns[-1].action for p in paths(tree.model_copy(update={"nodes": nodes}))] == ["2"]


def test_shared_steps() -> None:
    good = by_actions(TREE, "2 0 1")
    assert [good.shared(by_actions(TREE, other)) for other in ("2 0 2", "2 1 2", "0 1 2", "2 0 1")] == [
        2,
        1,
        0,
        3,
    ]
    assert path_to(TREE, good.leaf) == good


@pytest.mark.parametrize(
    ("answer", "word", "reason"),
    [
        ("It helps.\nJudgement: good", "good", "It helps."),
        ("Judgment: **Bad**.", "bad", ""),
        ("Judgement: good? No.\njudgement : Uncertain", "uncertain", "Judgement: good? No."),
        ("A good step.", "unreadable", "A good step."),
        ("Judgement: goodness me", "unreadable", ""),
        ("Fine.\nJudgement: good, bad or uncertain", "unreadable", "Fine."),  # the question's last line
        ("Judgement: good or bad", "unreadable", ""),
        ("Judgement: good. Nothing bad came of it.", "good", ""),
        ("", "unreadable", ""),
    ],
)
def test_the_last_verdict_counts(answer: str, word: str, reason: str) -> None:
    assert read(answer) == (word, reason)


def test_the_judge_sees_task_log_and_step_without_thoughts() -> None:
    path = by_actions(TREE, "2 1 2")
    (message,) = question(WORDING, TREE, path.turns[:2])
    assert TREE.opening[-1].content in message.content
    assert "Action: 2\nReply: room 2" in message.content
    assert message.content.index("Newest action: 1\nReply: room 3") > message.content.index("Reply: room 2")
    assert question("{action} {task}", TREE, path.turns[:1])[0].content == f"2 {TREE.opening[-1].content}"


def spliced(judged: str, bad: str, *, mask_bad: bool = True) -> tuple[Tree, Draft, dict[str, object]]:
    tree = tree_of("201", "2 0 1", "2 x x", judged=judged)
    pair = Pair(by_actions(tree, "2 0 1"), by_actions(tree, bad))
    found = revise(pair, random.Random(0), mask_bad=mask_bad, signal=SIGNAL)
    assert found is not None
    return tree, Draft(tree, 0, "revision", found.turns), found.facts


@pytest.mark.parametrize(
    ("judged", "actions", "facts"),
    [
        ("2 x", "2 x wait 0 1", (2, 1, True, False)),
        ("2 x x", "2 x x wait 0 1", (3, 2, True, False)),
        ("", "2 x x wait 0 1", (3, 2, False, False)),  # nothing detected: direct revision
        ("2", "2 wait 0 1", (1, 0, True, True)),  # the bad step is the good path's as well
    ],
)
def test_bad_steps_the_signal_and_the_rest_of_the_good_path(
    judged: str, actions: str, facts: tuple[object, ...]
) -> None:
    _tree, draft, found = spliced(judged, "2 x x")
    assert draft.dialogue().meta["actions"] == actions.split()
    assert tuple(found[name] for name in ("bad_steps", "length", "detected", "inside")) == facts
    assert found["judgements"] == ([{"verdict": "bad", "reason": "so"}] if judged else [])


@pytest.mark.parametrize(
    ("good", "bad", "judged", "actions"),
    [
        ("2 wait 0 1", "2 x x", "2 x", "2 x wait 0 1"),
        ("2 0 1", "2 x wait", "", "2 x wait 0 1"),
        ("2 wait wait 0 1", "2 wait x wait wait", "", "2 wait x wait 0 1"),
        ("wait 2 0 1", "wait x x", "wait x", "wait x wait 2 0 1"),
        ("2 0 1", "wait wait", "", None),  # nothing bad was done
    ],
)
def test_the_signal_is_not_said_twice(good: str, bad: str, judged: str, actions: str | None) -> None:
    tree = tree_of("201", good, bad, judged=judged)
    pair = Pair(by_actions(tree, good), by_actions(tree, bad))
    found = revise(pair, random.Random(0), mask_bad=True, signal=SIGNAL)
    assert (found and [turn.action for turn in found.turns]) == (actions and actions.split())


def test_a_dialogue_is_what_the_policy_saw() -> None:
    tree, draft, _ = spliced("2 x", "2 x x")
    made = draft.dialogue()
    assert made.messages[: len(tree.opening)] == tree.opening
    said = [m.content for m in made.messages[len(tree.opening) :]]
    assert said[:4] == ["Action: 2", "room 2", "Action: x", "There is no such door."]
    thought, _, action = said[4].partition("\n")
    assert (thought.removeprefix("Thought: ") in THOUGHTS, action, said[5]) == (True, "Action: wait", "ok.")
    assert said[6:] == ["Action: 0", "room 3", "Action: 1"]
    assert [m.role for m in made.messages[-2:]] == ["user", "assistant"]
    learnt = [m.content for m, loss in zip(made.messages, made.loss, strict=True) if loss]
    assert learnt == [said[4], "Action: 0", "Action: 1"]


def test_bad_steps_may_be_learnt() -> None:
    _, draft, _ = spliced("2 x", "2 x x", mask_bad=False)
    assert sum(draft.dialogue().loss) == 5


def test_ten_different_thoughts_are_drawn_alike() -> None:
    tree = tree_of("2", "2", "x")
    pair = Pair(by_actions(tree, "2"), by_actions(tree, "x"))
    rng = random.Random(1)
    made = [revise(pair, rng, mask_bad=True, signal="{thought}{action}") for _ in range(200)]
    drawn = {found.turns[1].text for found in made if found}
    assert drawn == {f"{thought}wait" for thought in THOUGHTS}
    assert len(drawn) == 10
