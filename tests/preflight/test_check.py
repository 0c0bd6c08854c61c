"""The check before anything is computed: data, and what parts need of the rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from itercli.engine.runs import all_runs
from itercli.models.known import TINY_RTL
from itercli.preflight import problems
from itercli.preflight.rows import FIRST
from tests.conftest import Project
from tests.recipe.test_plan import SCORE, toy

PLUGIN = """
from itercli.records import Score
from itercli.registry import register
from itercli.verifiers.base import Scorer

@register("scorer", "by_answer")
class ByAnswer(Scorer):
    NEEDS = ("Prompt.meta.answer.text",)
    def open(self): raise NotImplementedError
    def leaves_open(self): return ("Score.passed",)
    def objection(self, prompt):
        if prompt.id == "raise": raise KeyError(prompt.id)
        return f"{prompt.id}: the answer is shouted" if prompt.meta["answer"]["text"].isupper() else ""
"""
GOOD = {"prompt": "x", "answer": {"text": "y"}, "reference": "r"}


@pytest.fixture
def own(project: Project) -> Project:
    (project.path / "by_answer.py").write_text(PLUGIN)
    return project


def found(
    project: Project, rows: list[Any], *, deep: bool = False, limit: int | None = None, **changes: Any
) -> dict[str, str]:
    """Key -> problem of the toy recipe with these rows as its tasks."""
    path = project.path / "own.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    source: dict[str, Any] = {"name": "jsonl", "path": str(path)} | ({"limit": limit} if limit else {})
    plugins = [str(Path(__file__).parents[1] / "toy" / "toy_plugin.py"), str(project.path / "by_answer.py")]
    changes = {"before__tasks__source": source, "plugins": plugins} | changes
    return {p.key: str(p) for p in problems(toy(project, **changes), deep=deep)}


def test_good_data_pass(own: Project) -> None:
    assert found(own, [GOOD, GOOD]) == {}


def test_all_errors_of_a_file_are_reported_with_their_lines(own: Project) -> None:
    path = own.path / "own.jsonl"
    path.touch()
    plan = toy(own, before__tasks__source={"name": "jsonl", "path": str(path)})
    path.write_text('{"prompt": "a"\n{"id": 1, "prompt": "b"}\n{"id": 1, "prompt": "c"}\n{"text": "d"}\n')
    (one, two, three) = problems(plan, deep=False)
    assert one.what.startswith(f"{path}:1: not JSON")
    assert two.what.startswith(f"{path}:3: id '1' is also on line 2")
    assert three.what.startswith(f"{path}:4: neither 'prompt' nor 'messages'")
    assert {one.key, two.key, three.key} == {"before.tasks.source"}
    path.write_text("")
    (empty,) = problems(plan, deep=False)
    assert "gives no prompts" in empty.what


def test_the_first_rows_are_looked_at_and_all_with_deep(own: Project) -> None:
    rows = [*({"prompt": str(n)} for n in range(FIRST)), "{"]
    assert found(own, rows) == {}
    assert f"own.jsonl:{FIRST + 1}: not JSON" in found(own, rows, deep=True)["before.tasks.source"]
    assert found(own, rows, deep=True, limit=5) == {}


def test_a_plugins_needs_are_looked_for_in_every_row(own: Project) -> None:
    scorer = {"loop__score": {**SCORE, "scorer": "by_answer"}}
    assert found(own, [GOOD, GOOD], **scorer) == {}
    text = found(own, [GOOD, {"prompt": "y", "answr": 1}], **scorer)["loop.score.scorer"]
    assert "scorer by_answer needs meta.answer.text of the prompts, and 1 of 2 have none" in text
    assert "meta.answr" in text
    shouted = found(own, [GOOD, {"prompt": "y", "answer": {"text": "Y"}}], **scorer)
    assert "the answer is shouted" in shouted["loop.score.scorer"]
    text = found(own, [GOOD | {"id": "raise"}], **scorer)["loop.score.scorer"]
    assert "scorer by_answer can't say what it needs of the rows: KeyError: 'raise'" in text


def test_a_selector_needs_a_row_to_select_from(own: Project) -> None:
    selector = {"loop__build": {"uses": "select", "of": "score", "selector": "references"}}
    assert found(own, [GOOD, {"prompt": "without"}], **selector) == {}
    text = found(own, [{"prompt": "without"}], **selector)["loop.build.selector"]
    assert "selector references needs reference of the prompts, and 1 of 1 have none" in text


def test_who_needs_verdicts_needs_a_scorer_that_gives_them(own: Project) -> None:
    changes: dict[str, Any] = {
        "loop__score": {**SCORE, "scorer": "by_answer"},
        "loop__build": {"uses": "select", "of": "score", "selector": "best"},
        "loop__evaluate__scorer": "by_answer",
    }
    keys = found(own, [GOOD], **changes)
    assert (
        "selector best needs 'passed' of the scores, which scorer by_answer leaves open"
        in (keys["loop.build.selector"])
    )
    assert "pass@1 needs 'passed'" in keys["loop.evaluate.metrics"]
    changes["loop__build"]["selector"] = {"name": "best", "require_passed": False}
    changes["loop__evaluate__metrics"] = ["mean_score"]
    changes["headline"] = "evaluate.mean_score"
    assert found(own, [GOOD], **changes) == {}


def test_a_field_to_break_down_by_must_be_there(own: Project) -> None:
    text = found(own, [GOOD], loop__evaluate__by="answers")["loop.evaluate.by"]
    assert "no prompt has the field 'answers'" in text
    assert "did you mean: answer" in text
    assert found(own, [GOOD], loop__evaluate__by="answer") == {}


def test_pass_k_of_scores_that_are_there_needs_k_completions(own: Project) -> None:
    measure = {"uses": "measure", "of": "score", "metrics": ["pass@3"]}
    text = found(own, [GOOD], loop__measure=measure)["loop.measure.metrics"]
    assert "pass@3 needs at least 3 completions per prompt, there are 2" in text


def test_run_looks_at_all_rows_before_the_first_stage(own: Project) -> None:
    rows = [
        *({"prompt": str(n)} for n in range(FIRST)),
        {"prompt": "0", "id": "x"},
        {"prompt": "1", "id": "x"},
    ]
    (own.path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    overrides = ["recipe=toy.yaml", "before.tasks.source={name: jsonl, path: own.jsonl}"]
    own.iter("plan", *overrides)
    assert own.iter("plan", *overrides, "--deep", check=False).returncode == 2
    done = own.iter("run", *overrides, check=False)
    assert done.returncode == 2
    assert f"own.jsonl:{FIRST + 2}: id 'x' is also on line {FIRST + 1}" in done.stderr
    assert "Traceback" not in done.stderr
    (run,) = all_runs(own.path / "runs")
    assert "stage_started" not in [event["event"] for event in run.events()]


def test_prompts_that_leave_no_room(own: Project) -> None:
    shutil.copy(TINY_RTL / "tokenizer.json", own.path / "model" / "tokenizer.json")
    config = {"level": 0, "max_position_embeddings": 100}
    (own.path / "model" / "config.json").write_text(json.dumps(config))
    rows = [{"id": "a", "prompt": "word"}, {"id": "b", "prompt": "module " * 90}]
    sample = {"uses": "sample", "role": "policy", "prompts": "tasks", "n": 2, "max_new_tokens": 50}
    text = found(own, rows, loop__sample=sample)["loop.sample.prompts"]
    assert "1 prompts exceed the context of 100 tokens of model with max_new_tokens 50: 'b' (" in text
    assert "`on_overlong: drop`" in text
    for rule in ("drop", "truncate_left", "fit"):
        assert found(own, rows, loop__sample=sample | {"on_overlong": rule}) == {}
    text = found(own, rows[:1], loop__sample=sample | {"max_new_tokens": 100})["loop.sample.max_new_tokens"]
    assert "leaves no room for a prompt in the context of 100 tokens" in text


def test_models_of_our_own_samplers_are_looked_at(own: Project) -> None:
    assert "roles.policy" not in found(own, [GOOD])  # a plug-in's sampler may know other folders
    keys = found(own, [GOOD], sampler={"name": "transformers"})
    assert str(own.path / "model") in keys["roles.policy"]
    shutil.rmtree(own.path / "model")
    shutil.copytree(TINY_RTL, own.path / "model")
    assert found(own, [GOOD], sampler={"name": "transformers"}) == {}
