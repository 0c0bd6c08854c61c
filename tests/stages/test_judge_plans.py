"""Who may judge, and what a plan says of it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from itercli.engine.context import Context
from itercli.engine.store import Store
from itercli.sampling.specs import OpenAISpec
from itercli.stages.drawing import open_sampler
from tests.conftest import Project
from tests.recipe.test_plan import errors, toy
from tests.stages.judging import JUDGE, Scripted, ScriptedSampler

QUALITY = {"uses": "judge", "of": "sample", "role": "judge", "rubric": "longgen"}
SERVER = {"name": "openai", "base_url": "http://127.0.0.1:1/v1"}


def with_judge(project: Project, spec: Any, **stage: Any) -> dict[str, Any]:
    policy = {"path": str(project.path / "model")}
    return {"roles": {"policy": policy, "judge": spec}, "loop__quality": {**QUALITY, **stage}}


def test_a_judge_stays_what_it_is(project: Project) -> None:
    start = {"path": str(project.path / "model")}
    plan = toy(project, **with_judge(project, start), iterations=3)
    uses = [plan.nodes[f"iteration-0{n}/quality"].models["judge"] for n in (1, 2, 3)]
    assert {(u.label, u.node) for u in uses} == {("judge@0", None)}
    assert plan.nodes["iteration-01/quality"].inputs["prompts"] == ["before/tasks"]


@pytest.mark.parametrize("uses", ["judge", "judge_pairs"])
def test_a_trained_role_can_not_judge(project: Project, uses: str) -> None:
    pair = {"against": "previous.sample"} if uses == "judge_pairs" else {}
    start = {"path": str(project.path / "model")}
    found = errors(project, **with_judge(project, start, uses=uses, role="policy", **pair))
    assert set(found) == {"loop.quality.role"}
    assert "loop.train trains this role" in found["loop.quality.role"]
    assert "allowed: judge" in found["loop.quality.role"]


def test_a_policy_that_judges_itself_says_so_and_changes(project: Project) -> None:
    plan = toy(project, loop__quality={**QUALITY, "role": "policy", "in_training": True})
    used = [plan.nodes[f"iteration-0{n}/quality"].models["judge"].label for n in (1, 2)]
    assert used == ["policy@1", "policy@2"]  # it stands after the training


def test_without_another_role_the_error_says_how_to_make_one(project: Project) -> None:
    found = errors(project, loop__quality={**QUALITY, "role": "policy"})
    assert "judge: ${model}" in found["loop.quality.role"]


def test_a_served_role_plans_without_a_folder(project: Project) -> None:
    plan = toy(project, **with_judge(project, {"served": "strict-1"}, sampler=SERVER))
    assert plan.roots["judge"].path is None
    other = toy(project, **with_judge(project, {"served": "strict-2"}, sampler=SERVER))
    node = "iteration-01/quality"
    assert plan.nodes[node].key != other.nodes[node].key
    assert plan.nodes["iteration-01/sample"].key == other.nodes["iteration-01/sample"].key


def test_samplers_that_do_not_fit_a_role(project: Project) -> None:
    def problem(role: dict[str, str], **sampler: Any) -> str:
        stage = {"sampler": sampler} if sampler else {}
        (text,) = errors(project, **with_judge(project, role, **stage)).values()
        assert text.startswith("loop.quality.sampler: role judge:")
        return text

    served, local = {"served": "strict-1"}, {"path": str(project.path / "model")}
    assert "only behind a server" in problem(served)  # the recipe's own sampler
    assert "name: openai" in problem(served, name="auto")
    assert "the role is 'strict-1'" in problem(served, **SERVER, model="other")
    assert "{served: NAME}" in problem(local, **SERVER)
    toy(project, **with_judge(project, served, sampler={**SERVER, "model": "strict-1"}))
    toy(project, **with_judge(project, local, sampler={**SERVER, "model": "other"}))


def test_a_served_role_can_not_be_trained(project: Project) -> None:
    changes = with_judge(project, {"served": "strict-1"}, sampler=SERVER)
    train = {"uses": "train", "examples": "build", "method": "toy", "role": "judge", "init_from": "previous"}
    found = errors(project, **changes, loop__more=train)
    assert "can't be trained here" in found["loop.more.role"]
    assert "allowed: policy" in found["loop.more.role"]


@pytest.mark.parametrize(
    "role", [{}, {"path": "x", "served": "y"}, {"served": ""}, {"served": "y", "revision": "main"}]
)
def test_a_role_is_in_one_place(project: Project, role: dict[str, str]) -> None:
    found = errors(project, **with_judge(project, role, sampler=SERVER))
    assert any(key.startswith("roles.judge") for key in found)


def test_a_remote_sampler_leaves_the_local_one_alone(tmp_path: Path) -> None:
    closed: list[str] = []

    class Kept(ScriptedSampler):
        def __init__(self, name: str) -> None:
            super().__init__(lambda request: "")
            self.name = name

        def close(self) -> None:
            closed.append(self.name)

    class Local(Scripted):
        threads: int = 1

        def build(self) -> Any:
            return Kept(f"local {self.threads}")

    class Remote(OpenAISpec):
        def build(self) -> Any:
            return Kept(f"remote {self.base_url}")

    Local.NAME = "local"
    ctx = Context(
        name="x", iteration=1, seed=1, entry=Store(tmp_path).entry("scores", "k"), inputs={},
        models={}, shared={}, stop=threading.Event(), send=lambda message: None,
    )  # fmt: skip
    first = open_sampler(ctx, Local(), JUDGE)
    open_sampler(ctx, Remote(base_url="a"), JUDGE)
    assert open_sampler(ctx, Local(), JUDGE) is first
    assert closed == []
    open_sampler(ctx, Local(threads=2), JUDGE)
    assert closed == ["local 1"]
