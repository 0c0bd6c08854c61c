"""Reference answers as rows, and lists of answers that prompts bring along."""

from __future__ import annotations

from typing import Any

import pytest

from itercli.records import Message, Prompt
from itercli.stages.base import StageError
from itercli.stages.references import References
from tests.stages.context import Context


def prompt(name: str, reference: str | None = None, **meta: Any) -> Prompt:
    return Prompt(id=name, messages=[Message(role="user", content="?")], reference=reference, meta=meta)


def rows(*prompts: Prompt, **options: Any) -> tuple[list[tuple[str, int, str]], dict[str, int]]:
    ctx = Context({"prompts": prompts})
    References.model_validate({"prompts": "tasks", **options}).run(ctx)  # type: ignore[arg-type]
    policy = options.get("field", "reference")
    assert all((r.policy, r.finish) == (policy, "stop") for r in ctx.rows)
    return [(*r.key, r.completion) for r in ctx.rows], ctx.counts


def test_references_and_those_without() -> None:
    assert rows(prompt("a", "x"), prompt("b"), prompt("c", "")) == (
        [("a", 0, "x"), ("c", 0, "")],
        {"without a reference": 1},
    )


def test_answers_that_were_cut_say_so() -> None:
    ctx = Context({"prompts": [prompt("a", answers=["1", "2"], answers_finish=["length", "stop"])]})
    References.model_validate({"prompts": "tasks", "field": "answers"}).run(ctx)  # type: ignore[arg-type]
    assert [(r.completion, r.finish) for r in ctx.rows] == [("1", "length"), ("2", "stop")]
    for wrong in (["length"], ["length", "maybe"], "stop", [1, 2]):
        with pytest.raises(StageError, match=r"meta.answers_finish of prompt 'a' must say of each of 2"):
            rows(prompt("a", answers=["1", "2"], answers_finish=wrong), field="answers")


def test_lists_of_answers() -> None:
    found = rows(prompt("a", "x", answers=["1", "2"]), prompt("b", "y"), field="answers")
    assert found == ([("a", 0, "1"), ("a", 1, "2")], {"without a reference": 1})
    for wrong in ("text", [1]):
        with pytest.raises(StageError, match=r"meta.answers of prompt 'a' is no list of texts"):
            rows(prompt("a", answers=wrong), field="answers")
    with pytest.raises(StageError, match=r"none of 1 prompts has meta.answers; draw answers"):
        rows(prompt("a", "x"), field="answers")
