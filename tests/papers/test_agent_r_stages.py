"""Agent-R's stages: judging with kills, dialogues by data and reason, replays, chat, bad starts."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from itercli.data.general import as_dialogue, conversations_file, read_conversations
from itercli.papers.agent_r.judge import Judge
from itercli.papers.agent_r.mix import Mix
from itercli.papers.agent_r.recovery import BadStarts
from itercli.papers.agent_r.replay import replay
from itercli.papers.agent_r.revise import Revise
from itercli.records import Dialogue, Episode, Prompt, Tree, Turn
from itercli.sampling.base import Request
from itercli.stages.base import StageError
from itercli.stages.rollout import Rollout
from tests.environments.toy import DoorsSpec, task
from tests.papers.agent_r import scene, tree_of
from tests.stages.bench import Bench, Fake, Killed, Slots, die
from tests.stages.context import run

TREES = [
    tree_of("201", "2 0 1", "2 x x", "2 x 1"),
    tree_of("12", "1 2", "0 0", "1 x"),
    tree_of("00", "0 0"),  # nothing bad: no pair
]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, "trees")


def judge(**options: Any) -> Judge:
    given = {"of": "search", "role": "policy", "sampler": Fake(), "wording": "{log}|{action}"}
    return Judge(**given | options)


def strict(request: Request) -> str:
    """What is no right door is bad; each question is answered the same."""
    action = request.messages[0].content.rpartition("|")[2]
    return "None such.\nJudgement: bad" if action == "x" else "Fine.\nJudgement: good"


def judgements(tree: Tree) -> dict[str, str]:
    """Actions from the root -> verdict."""
    found, at = {}, {0: ""}
    for node in tree.nodes[1:]:
        assert node.turn
        assert node.parent is not None
        at[node.id] = f"{at[node.parent]} {node.turn.action}".strip()
        if "judgement" in node.turn.info:
            found[at[node.id]] = node.turn.info["judgement"]["verdict"]
    return found


# -- judge --------------------------------------------------------------------------------


def test_bad_paths_are_judged_until_a_step_is_bad_and_shared_steps_once(bench: Bench) -> None:
    sampler = Slots(answer=strict)
    rows = bench.stage(judge(), sampler, Tree, of=TREES)
    assert [judgements(tree) for tree in rows] == [
        {"2": "good", "2 x": "bad"},
        {"0": "good", "0 0": "good", "1": "good", "1 x": "bad"},
        {},
    ]
    assert len(sampler.asked) == 6
    assert rows[0].nodes[4].turn.info["judgement"]["reason"] == "None such."  # type: ignore[union-attr]
    assert [len(tree.meta["pairs"]) for tree in rows] == [
        1,
        2,
        0,
    ]  # two bad paths of the first end at one step
    counts = {
        name: bench.counts[name] for name in ("pairs", "trees_without_pairs", "verdict_bad", "verdict_good")
    }
    assert counts == {"pairs": 3, "trees_without_pairs": 1, "verdict_bad": 2, "verdict_good": 4}


@pytest.mark.parametrize("at", [1, 3, 6])
def test_killed_and_gone_on_with_gives_the_same_trees(bench: Bench, tmp_path: Path, at: int) -> None:
    whole = Bench(tmp_path / "whole", "trees").stage(judge(), Slots(answer=strict), Tree, of=TREES)
    with pytest.raises(Killed):
        bench.stage(judge(), Slots(3, random.Random(at), answer=strict, after=die(at)), Tree, of=TREES)
    sampler = Slots(2, random.Random(at), answer=strict)
    assert bench.stage(judge(), sampler, Tree, of=TREES) == whole
    assert len(sampler.asked) == 6 - at


@pytest.mark.parametrize(("counts_as", "asked"), [("bad", 1), ("uncertain", 3)])
def test_an_answer_without_verdict_is_kept_as_what_it_is(bench: Bench, counts_as: str, asked: int) -> None:
    tree = tree_of("201", "2 0 1", "x x x")
    sampler = Slots(answer=lambda request: "Well.")
    (row,) = bench.stage(judge(unreadable=counts_as), sampler, Tree, of=[tree])
    assert len(sampler.asked) == asked
    assert set(judgements(row).values()) == {"unreadable"}
    assert bench.counts["rejected: no verdict"] == asked


def test_no_answer_is_no_verdict(bench: Bench) -> None:
    tree = tree_of("201", "2 0 1", "x x x")
    sampler = Slots(answer=lambda request: None)  # the path is beyond the context
    (row,) = bench.stage(judge(), sampler, Tree, of=[tree])
    assert not any(n.turn.info["judgement"]["bad"] for n in row.nodes if n.turn and n.turn.action == "x")
    assert bench.counts["rejected: no answer"] == 3


def test_trees_of_all_iterations_are_refused() -> None:
    assert judge(of="all.search").check()[0][0] == "of"


@pytest.mark.parametrize("by", ["tree", "actor"])
def test_equal_splices_are_one_before_the_cap(bench: Bench, by: str) -> None:
    tree = tree_of("201", "2 0 1", "2 x x", "2 x 1", "1 x")  # two bad paths of three go wrong at "2 x"
    rows = bench.stage(judge(judge=by, max_pairs=2), Slots(answer=strict), Tree, of=[tree])
    assert len(rows[0].meta["pairs"]) == 2
    assert bench.counts["dropped_same"] == 1
    made = run(Revise(of="judge"), of=rows, prompts=[])
    assert origins(made.rows)["revision"] == 2
    assert made.counts.get("dropped_duplicate", 0) == 0


def test_to_wait_is_not_bad(bench: Bench) -> None:
    tree = tree_of("201", "2 0 1", "2 wait x x")
    (row,) = bench.stage(judge(judge="tree", role=None), Slots(), Tree, of=[tree])
    assert judgements(row) == {"2": "good", "2 wait": "uncertain", "2 wait x": "bad"}


def test_keys_hold_what_is_used() -> None:
    same = [
        Revise(of="judge", data="rft", signal=signal).key_params() for signal in ("{action}", "a {action}")
    ]
    assert same[0] == same[1]
    assert judge(judge="tree", max_new_tokens=9).key_params() == judge(judge="tree").key_params()
    assert judge(max_new_tokens=9).key_params() != judge().key_params()
    assert Revise(of="judge", success=0.5).key_params() == Revise(of="judge").key_params()
    for option in ({"mask_bad": False}, {"signal": "{action}"}, {"drop_inside": True}, {"max_good": 1}):
        assert Revise(of="judge", **option).key_params() != Revise(of="judge").key_params()


def test_without_a_judge_no_model_is_needed(bench: Bench, tmp_path: Path) -> None:
    sampler = Slots()
    rows = bench.stage(judge(judge="none", role=None), sampler, Tree, of=TREES)
    assert [judgements(tree) for tree in rows] == [{}, {}, {}]
    (row, *_) = Bench(tmp_path / "b", "trees").stage(judge(judge="tree", role=None), sampler, Tree, of=TREES)
    assert judgements(row) == {"2": "good", "2 x": "bad"}
    assert not sampler.loaded
    # From the detour a good end was found, too; but it was no nearer than before.
    detour = tree_of("201", "2 0 1", "2 x 0 1", "2 x x x")
    (row,) = Bench(tmp_path / "c", "trees").stage(judge(judge="tree", role=None), sampler, Tree, of=[detour])
    assert judgements(row) == {"2": "good", "2 x": "bad"}
    assert judge(judge="none", role=None).model_links() == []
    assert judge(role=None).check()[0][0] == "role"


# -- revise -------------------------------------------------------------------------------


def judged(*trees: Tree, by: str = "tree", alpha: float = 0.5) -> list[Tree]:
    return run(judge(judge=by, role=None, alpha=alpha), of=trees).rows


def origins(rows: list[Dialogue]) -> dict[str, int]:
    return {name: sum(row.origin == name for row in rows) for name in ("good", "revision", "own")}


def test_dialogues_by_data() -> None:
    trees = judged(*TREES)
    made = {
        data: run(Revise(of="judge", data=data), of=trees, prompts=[])
        for data in ("agent_r", "optimal_only", "rft")
    }
    # Both bad paths of the first tree go wrong at the same step: one revision.
    assert origins(made["agent_r"].rows) == {"good": 3, "revision": 3, "own": 0}
    assert origins(made["optimal_only"].rows) == {"good": 3, "revision": 0, "own": 0}
    assert origins(made["rft"].rows) == {"good": 0, "revision": 0, "own": 3}
    metrics = made["agent_r"].metrics
    assert (metrics["good"], metrics["revisions"], metrics["detected"]) == (3, 3, 1.0)
    assert metrics["revision_length"] == 1.0
    assert metrics["bad_steps"] == pytest.approx((2 + 1 + 2) / 3)
    assert made["agent_r"].files["environments.json"]["test.doors"] == metrics


def test_every_path_above_alpha_is_good_also_where_it_has_no_pair() -> None:
    """As in the released code; a tree whose ends are all alike teaches as well."""
    alike = tree_of("201", "2 0 1", "2 x 0 1", "2 x x 0 1")
    trees = judged(alike)
    assert [tree.meta["pairs"] for tree in trees] == [[]]
    for data in ("agent_r", "optimal_only"):
        every = run(Revise(of="judge", data=data), of=trees, prompts=[])
        assert origins(every.rows) == {"good": 3, "revision": 0, "own": 0}
        paired = run(Revise(of="judge", data=data, good="paired"), of=trees, prompts=[])
        assert paired.rows == []
    assert Revise(of="judge").key_params()["good"] == "above_alpha"
    assert "good" not in Revise(of="judge", data="rft").key_params()
    # A cap on pairs is none on good paths.
    capped = run(judge(judge="none", role=None, alpha=0.5, max_pairs=1), of=[
        tree_of("201", "2 0 1", "2 x 0 1", "2 x x 0 1", "x x x")]).rows  # fmt: skip
    assert origins(run(Revise(of="judge"), of=capped, prompts=[]).rows)["good"] == 3


def test_pairs_that_cannot_be_meant_are_dropped_by_reason() -> None:
    inside = tree_of("201", "2 0 1", "2 x x", judged="2")
    ended = tree_of("01", "0 1", "1 0")
    trees = judged(inside, ended, by="none")
    kept = run(Revise(of="judge", drop_ended=False), of=trees, prompts=[])
    assert origins(kept.rows)["revision"] == 2
    made = run(Revise(of="judge", drop_inside=True), of=trees, prompts=[])
    assert origins(made.rows)["revision"] == 0
    assert (made.counts["dropped_inside"], made.counts["dropped_ended"]) == (1, 1)


def test_of_more_good_paths_the_shortest_are_learnt() -> None:
    trees = judged(tree_of("201", "2 x 0 1", "2 0 1", "2 x x 0 1", "x x"), by="none")
    made = run(Revise(of="judge", data="optimal_only", max_good=2), of=trees, prompts=[])
    assert [row.meta["actions"] for row in made.rows] == [["2", "x", "0", "1"], ["2", "0", "1"]]
    assert made.counts["dropped_good_over_cap"] == 1


def test_a_bad_step_of_a_good_path_is_not_learnt_either() -> None:
    trees = judged(tree_of("201", "2 0 1", "2 x 0 1", "2 x x x"))
    made = {mask: run(Revise(of="judge", mask_bad=mask), of=trees, prompts=[]).rows for mask in (True, False)}
    detour = [next(r for r in rows if r.meta["actions"] == ["2", "x", "0", "1"]) for rows in made.values()]
    assert [
        [loss for m, loss in zip(r.messages, r.loss, strict=True) if m.role == "assistant"] for r in detour
    ] == [
        [True, False, True, True],
        [True] * 4,
    ]
    alone = run(Revise(of="judge", data="optimal_only"), of=trees, prompts=[]).rows
    assert all(sum(row.loss) == len(row.meta["actions"]) for row in alone)


def test_trees_that_were_not_judged_are_refused() -> None:
    with pytest.raises(StageError, match=r"name a stage agent_r.judge"):
        run(Revise(of="search"), of=TREES)
    problems = Revise(of="judge", verify_splice="replay", signal="x").check()
    assert [key for key, *_ in problems] == ["environment", "signal"]


def test_a_replay_does_everything_but_the_signal() -> None:
    doors = scene("201")

    def turns(actions: str) -> list[Turn]:
        return [
            Turn(text=a, action=a, observation="room 2", info={"signal": True} if a == "wait" else {})
            for a in actions.split()
        ]

    holds = replay(doors, turns("x wait 2 0 1"))
    assert (holds.score, holds.steps, holds.differ) == (1.0, 3, 2)
    fails = replay(doors, turns("1 wait 2 0 1 1"))  # a room further on, the doors are others
    assert (fails.score, len(fails.turns)) == (0.0, 4)
    assert replay(scene("2"), turns("die wait 2")).score == 0.0
    over = replay(scene("01"), turns("0 1 wait 0 1"))  # won before the signal: nothing to recover from
    assert (over.score, [turn.action for turn in over.turns]) == (0.0, ["0", "1"])


@pytest.mark.parametrize("mode", ["replay", "replace"])
def test_splices_that_do_not_hold_are_dropped(tmp_path: Path, mode: str) -> None:
    # "2 x" leads back to the good path; behind "0" the first room is lost.
    trees = judged(tree_of("201", "2 0 1", "2 x x", "0 x x"), alpha=1.0)
    bench = Bench(tmp_path, "dialogues")
    stage = Revise(of="judge", verify_splice=mode, environment=DoorsSpec())
    rows = bench.stage(stage, Slots(), Dialogue, of=trees, prompts=[task("201")])
    assert [(row.origin, row.meta["actions"]) for row in rows] == [
        ("good", ["2", "0", "1"]),
        ("revision", ["2", "x", "wait", "0", "1"]),
    ]
    assert rows[1].meta["replay"] == {"score": 1.0, "differ": 0.0}
    assert (bench.counts["replayed"], bench.counts["dropped_replay"]) == (2, 1)
    # Again: from the journal, without an environment.
    assert bench.stage(stage, Slots(), Dialogue, of=trees, prompts=[]) == rows


def test_a_replaced_dialogue_has_what_the_environment_said_this_time(tmp_path: Path) -> None:
    # After the detour through the right door of room 1, "x 0 1" of the other branch begins a room later.
    tree = tree_of("2001", "x 2 0 0 1", "2 x x x x", judged="2")
    trees = judged(tree, by="none", alpha=0.1)
    stage = Revise(of="judge", verify_splice="replace", environment=DoorsSpec())
    rows = Bench(tmp_path, "dialogues").stage(stage, Slots(), Dialogue, of=trees, prompts=[task("2001")])
    (row,) = [row for row in rows if row.origin == "revision"]
    # The episode is over a step earlier than in the good branch, and the dialogue ends there.
    assert row.meta["actions"] == ["2", "wait", "x", "2", "0", "0"]
    seen = [m.content for m in row.messages if m.role == "user"][1:]
    assert seen == ["room 2", "ok.", "There is no such door.", "room 3", "room 4"]
    assert len(row.loss) == len(row.messages)
    assert row.meta["replay"]["score"] == 0.5


# -- mix ----------------------------------------------------------------------------------


def said(*turns: str) -> dict[str, Any]:
    """ShareGPT's form of "human: ...", "gpt: ..."."""
    return {"conversations": [dict(zip(("from", "value"), t.split(": "), strict=True)) for t in turns]}


def messages(*turns: str) -> dict[str, Any]:
    return {"messages": [dict(zip(("role", "content"), t.split(": "), strict=True)) for t in turns]}


CHAT = [
    said("gpt: Hi", "human: Q", "gpt: A"),
    said("human: Q", "human: Q", "gpt: A"),
    said("human: only asked"),
    messages("system: S", "user: Q", "assistant: A", "user: open"),
    said("human: "),
    {"text": "?"},
]
GOOD = run(Revise(of="judge"), of=judged(TREES[0]), prompts=[]).rows[0]


def own(number: int) -> Dialogue:
    return GOOD.model_copy(update={"index": number})


def test_general_chat_makes_up_its_share(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    rows = [messages(f"user: {n}?", "assistant: !") for n in range(50)]
    path.write_text("\n".join(map(json.dumps, rows)))
    stage = Mix(of="revise", general=str(path), share=0.2)
    made = run(stage, seed=1, of=[own(n) for n in range(3)])
    assert [row.origin for row in made.rows] == ["good"] * 3 + ["general"] * 12
    assert made.rows[-1].loss == [False, True]
    assert run(stage, seed=1, of=[own(n) for n in range(3)]).rows == made.rows
    assert run(stage, seed=2, of=[own(n) for n in range(3)]).rows != made.rows
    assert [row.origin for row in run(Mix(of="revise"), of=[own(0)]).rows] == ["good"]


def test_unusable_chat_is_counted_and_a_lack_is_said(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(CHAT))
    made = run(Mix(of="revise", general=str(path)), of=[own(0), own(1)])
    texts = {tuple(m.content for m in row.messages) for row in made.rows if row.origin == "general"}
    assert texts == {("Q", "A"), ("S", "Q", "A")}
    reasons = ("turns_out_of_order", "no_answer", "unreadable_turn", "no_conversation")
    assert [made.counts[f"dropped_{reason}"] for reason in reasons] == [1, 1, 1, 1]
    assert made.counts["general_missing"] == 6
    assert made.events[0][0] == "warning"


def test_other_chat_is_another_key(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    path.write_text("[]")
    before = Mix(of="revise", general=str(path)).fingerprint()
    path.write_text("[{}]")
    assert Mix(of="revise", general=str(path)).fingerprint() != before
    assert Mix(of="a").key_params() == Mix(of="b", general=str(path)).key_params()


def test_the_shipped_games_are_named_and_readable() -> None:
    rows = read_conversations(conversations_file("textcraft-games"))
    assert all(isinstance(as_dialogue(row, "game"), Dialogue) for row in rows)
    made = run(Mix(of="revise", general="textcraft-games", share=0.5), seed=1, of=[own(n) for n in range(3)])
    assert [row.origin for row in made.rows] == ["good"] * 3 + ["general"] * 3
    assert "Goal: craft" in made.rows[-1].messages[0].content


# -- recovery -----------------------------------------------------------------------------


def episode(number: int, actions: str, index: int = 0, score: float = 0.0, **fields: Any) -> Episode:
    turns = [Turn(text=a, action=a, observation="?", score=score) for a in actions.split()]
    fields = {"finish": "turns"} | fields
    return Episode(
        prompt_id=f"p{number}", index=index, seed=1, policy="policy@0", opening=[], turns=turns, score=score,
        **fields,
    )  # fmt: skip


def starts(episodes: list[Episode], seed: int = 0, **options: Any) -> Any:
    prompts = [task("201", id=f"p{n}") for n in range(4)]
    return run(BadStarts(episodes="eval", **options), seed, episodes=episodes, prompts=prompts)


def test_bad_starts_are_beginnings_of_attempts_that_stayed_low() -> None:
    attempts = [
        episode(0, "a b c d"),
        episode(1, "a b c", score=1.0),
        episode(2, "a"),
        episode(3, "a b c", finish="error"),
    ]
    made = starts(attempts, min_steps=2, max_steps=3)
    (row,) = made.rows
    assert row.id == "p0/bad0"
    assert row.meta["prefix"] in (["a", "b"], ["a", "b", "c"])
    assert row.meta["task"] == {"doors": "201"}
    assert (made.counts["tasks"], made.counts["tasks_without"]) == (3, 2)
    assert {len(starts(attempts, s, min_steps=2, max_steps=3).rows[0].meta["prefix"]) for s in range(20)} == {
        2,
        3,
    }


def test_a_start_is_never_the_end_of_an_episode_and_comes_once() -> None:
    over = Turn(text="b", action="b", observation="?", done=True)
    attempts = [episode(0, "a", i) for i in range(3)] + [
        episode(1, "a").model_copy(update={"turns": [*episode(1, "a").turns, over]})
    ]
    made = starts(attempts, per_task=3)
    assert [(row.id, row.meta["prefix"]) for row in made.rows] == [("p0/bad0", ["a"]), ("p1/bad0", ["a"])]
    assert len(starts(attempts, limit=1).rows) == 1
    with pytest.raises(StageError, match="raise score"):
        starts(attempts, min_steps=2)


def test_starts_may_be_of_tasks_that_another_attempt_solved() -> None:
    attempts = [episode(0, "a b"), episode(1, "a b"), episode(1, "c b", 1, score=1.0)]
    made = starts(attempts, solvable=True)
    assert [row.id for row in made.rows] == ["p1/bad0"]
    assert made.counts["tasks_never_solved"] == 1
    with pytest.raises(StageError, match="another that solved it"):
        starts(attempts[:2], solvable=True)


def test_a_rollout_begins_where_a_tree_went_wrong(bench: Bench) -> None:
    tree = tree_of("201", "x 1 1", "2 0 1")
    made = run(BadStarts(trees="search", min_steps=2, max_steps=2), trees=[tree], prompts=[task("201")])
    assert [row.meta["prefix"] for row in made.rows] == [["Action: x", "Action: 1"]]
    stage = Rollout(role="policy", prompts="starts", environment=DoorsSpec(), sampler=Fake(), max_turns=5)
    (played,) = bench.stage(stage, Slots(answer=lambda request: "0"), Episode, prompts=made.rows)
    assert [(turn.action, turn.loss) for turn in played.turns] == [
        ("x", False), ("1", False), ("0", True), ("0", True),
    ]  # fmt: skip
    assert played.score == pytest.approx(1 / 3)
    assert isinstance(made.rows[0], Prompt)
