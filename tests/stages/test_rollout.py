"""Episodes on the toy game: turns, limits, windows, several environments, kills."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from itercli.records import Episode, ModelRef
from itercli.sampling.base import Request
from itercli.stages.base import StageError
from itercli.stages.rollout import Rollout
from tests.environments.toy import DoorsSpec, MoreDoorsSpec, task
from tests.sampling.conftest import save_model, save_tokenizer
from tests.stages import bench as benches
from tests.stages.bench import Bench, Fake, Killed, Slots, die


def rollout(**options: Any) -> Rollout:
    given = {"role": "policy", "prompts": "tasks", "environment": DoorsSpec(), "sampler": Fake()}
    return Rollout(**given | options)


def acting(*texts: str) -> Any:
    """Answers by turn, the last one over and over."""
    return lambda request: texts[min(request.key[1], len(texts) - 1)]


def door(request: Request) -> str:
    return f"I think.\nAction: {request.seed % 3}"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, "episodes")


def test_an_episode_turn_by_turn(bench: Bench) -> None:
    sampler = Slots(answer=acting("Hm.\nAction: 1", "up", "2"))
    (episode,) = bench.stage(rollout(), sampler, Episode, prompts=[task("10")])
    assert [m.content for m in episode.opening] == ["Find the way out.\nroom 1 of 2"]
    assert [(t.text, t.action, t.observation, t.reward, t.score, t.done) for t in episode.turns] == [
        ("Hm.\nAction: 1", "1", "room 2", 0.5, 0.5, False),
        ("up", "up", "There is no such door.", 0.0, 0.5, False),
        ("2", "2", "the end", 0.0, 0.5, True),
    ]
    assert (episode.score, episode.finish, episode.tokens, episode.policy) == (0.5, "done", 6, "policy@1")
    assert episode.meta == {"environment": "test.doors"}
    assert all(t.loss for t in episode.turns)
    # Each turn was asked with all that was said before.
    assert [m.content for m in sampler.asked[2].messages[1:]] == [
        "Hm.\nAction: 1", "room 2", "up", "There is no such door.",
    ]  # fmt: skip
    assert bench.counts == {"turns": 3, "ended: done": 1, "calls: act": 3, "tokens": 6}


def test_limits_and_failures_end_their_episode_only(bench: Bench) -> None:
    def answer(request: Request) -> str | None:
        job, turn = request.key
        return {"looks": "look", "long": [None, "1"][turn == 0], "dies": ["1", "die"][turn == 1],
                "hangs": "hang", "traps": "trap"}.get(job.partition("#")[0], "1")  # fmt: skip

    spec = DoorsSpec(step_seconds=0.2)
    names = ("looks", "long", "dies", "hangs", "traps", "fine", "never")
    tasks = [task("" if name == "never" else "1111", id=name) for name in names]
    sampler = Slots(3, random.Random(1), answer=answer)
    made = bench.stage(rollout(environment=spec, max_turns=5), sampler, Episode, prompts=tasks)
    ended = {e.prompt_id: (e.finish, e.score, len(e.turns)) for e in made}
    assert ended == {
        "looks": ("turns", 0.0, 5),
        "long": ("context", 0.25, 1),
        "dies": ("error", 0.25, 2),
        "hangs": ("error", 0.0, 1),
        "traps": ("done", 0.0, 1),
        "fine": ("done", 1.0, 4),
        "never": ("error", 0.0, 0),
    }
    assert made[-1].meta["error"] == "no rooms"
    assert made[4].turns[-1].info == {"disaster": True}
    assert bench.counts["environment timeouts"] == 1
    assert bench.counts["ended: error"] == 3


def test_killed_after_any_call_gives_the_same_episodes(tmp_path: Path) -> None:
    tasks, stage = [task("10"), task("02")], rollout(n=2)
    whole = Bench(tmp_path / "whole", "episodes")
    episodes = whole.stage(stage, Slots(1, answer=door), Episode, prompts=tasks)
    assert [e.key for e in episodes] == [("doors 10", 0), ("doors 10", 1), ("doors 02", 0), ("doors 02", 1)]
    for k in range(1, 9):
        bench = Bench(tmp_path / str(k), "episodes")
        with pytest.raises(Killed):
            bench.stage(stage, Slots(3, random.Random(k), after=die(k), answer=door), Episode, prompts=tasks)
        sampler = Slots(3, random.Random(k + 100), answer=door)
        assert bench.stage(stage, sampler, Episode, prompts=tasks) == episodes
        assert len(sampler.asked) == 8 - k
        assert bench.counts == whole.counts


def test_episodes_go_in_lock_step(bench: Bench) -> None:
    sampler = Slots(12, answer=door)
    bench.stage(rollout(n=8), sampler, Episode, prompts=[task("2101"), task("0120"), task("1111")])
    # Twelve of the 24 take 48 answers at least; until then, there is a turn to ask for each slot.
    assert sampler.busy[:48] == [12] * 48


def test_each_task_plays_in_its_own_environment(bench: Bench) -> None:
    tasks = [task("1", "test.doors", "a"), task("1", "test.more_doors", "b")]
    both = rollout(environment=[DoorsSpec(), MoreDoorsSpec(conversation={"system": "Be brief."})])
    made = bench.stage(both, Slots(answer=acting("1")), Episode, prompts=tasks)
    assert [e.meta["environment"] for e in made] == ["test.doors", "test.more_doors"]
    assert [e.opening[0].role for e in made] == ["user", "system"]
    assert [e.score for e in made] == [1.0, 1.0]


def test_a_task_of_another_environment_is_refused_before_any_call(bench: Bench) -> None:
    sampler = Slots()
    with pytest.raises(StageError, match=r"'b' is of environment 'test.more_doors', which `environment:`"):
        bench.stage(rollout(), sampler, Episode, prompts=[task("1"), task("1", "test.more_doors", "b")])
    with pytest.raises(StageError, match=r"prompt 'p' has no meta.task"):
        bench.stage(rollout(), sampler, Episode, prompts=[task("1", id="p").model_copy(
            update={"meta": {"environment": "test.doors"}})])  # fmt: skip
    with pytest.raises(StageError, match="there are no tasks"):
        bench.stage(rollout(), sampler, Episode, prompts=[])
    assert sampler.loaded == []


def test_environments_are_options_like_others() -> None:
    one, two = rollout(environment="test.doors"), rollout(environment=["test.doors"])
    assert one.key_params() == two.key_params()
    assert "instances" not in one.key_params()["environment"][0]
    twice = rollout(environment=["test.doors", {"name": "test.doors", "instances": 2}])
    assert twice.check() == [("environment", "test.doors is listed twice", "each environment once")]
    dumped = one.model_dump(mode="json", include={"environment"})
    assert rollout(**dumped).environment == one.environment
    assert rollout(n=2, temperature=0).check()[0][0] == "n"


def test_a_task_may_begin_in_the_middle(bench: Bench) -> None:
    tasks = [
        task("1111", id="bad", prefix=["Action: 0", "look"]),
        task("11", id="done", prefix=["0", "0"]),
    ]
    made = bench.stage(rollout(max_turns=2), Slots(answer=acting("1")), Episode, prompts=tasks)
    assert [(t.action, t.observation, t.loss) for t in made[0].turns] == [
        ("0", "room 2", False), ("look", "There is no such door.", False), ("1", "room 3", True),
        ("1", "room 4", True),
    ]  # fmt: skip
    assert (made[0].finish, made[0].score, made[0].meta["given"]) == ("turns", 0.5, 2)
    assert (made[1].finish, made[1].score, made[1].tokens) == ("done", 0.0, 0)


def test_tasks_of_one_id_in_two_stages_are_not_taken_for_each_other(tmp_path: Path) -> None:
    kept: dict[str, Any] = {}
    for n, doors in enumerate(("12", "21")):
        bench = Bench(tmp_path / str(n), "episodes", kept)
        (made,) = bench.stage(
            rollout(), Slots(answer=acting(*doors)), Episode, prompts=[task(doors, id="same")]
        )
        assert made.score == 1.0
    assert len(kept) == 1  # the environments outlived the first stage


def test_window_tokens_are_counted_with_the_policys_tokenizer(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "model")
    save_tokenizer(tmp_path / "model")
    monkeypatch.setattr(benches, "POLICY", ModelRef(base=str(tmp_path / "model"), version="p@0", digest="d"))
    sampler = Slots(answer=acting("look"))
    (made,) = bench.stage(rollout(window_tokens=120, max_turns=6), sampler, Episode, prompts=[task("1")])
    from transformers import AutoTokenizer

    from itercli.sampling.prompting import encode_prompt

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    lengths = [len(encode_prompt(tokenizer, r.messages)) for r in sampler.asked]
    assert max(lengths) <= 120 < max(lengths) + lengths[1] - lengths[0]
    left_out = [t.left_out for t in made.turns]
    assert left_out[0] == 0 < left_out[-1] < 5
    assert left_out == sorted(left_out)
    assert [len(r.messages) for r in sampler.asked] == [1 + 2 * (n - left) for n, left in enumerate(left_out)]


def test_window_tokens_need_a_tokenizer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benches, "POLICY", ModelRef(base="", version="p@0", digest="served:gpt"))
    with pytest.raises(StageError, match="set window_turns instead"):
        bench.stage(rollout(window_tokens=9), Slots(), Episode, prompts=[task("1")])
