"""What both roles are trained on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from itercli.papers.self_lengthen.extend import (
    extend_request,
)
from itercli.papers.self_lengthen.pairs import ExtenderPairs, GeneratorPairs, Longest
from itercli.papers.self_lengthen.wording import Language
from itercli.records import Message, Prompt, RankedExample, Trajectory
from itercli.stages.selectors import Dropped, Selector
from tests.papers.self_lengthen.bench import prompt, text_of


def examples(
    selector: Selector, groups: Sequence[tuple[Prompt, list[Trajectory]]], seed: int = 0
) -> list[Any]:
    return list(selector.select(groups, rng=random.Random(seed)))


def extended(completion: str, draft: str, number: int = 0, index: int = 0) -> Trajectory:
    steps = [{"half": "H", "a": "Stage A.", "b": "Stage B.", "taken": True}]
    return text_of(completion, number, index, draft=draft, steps=steps)


def test_both_roles_learn_the_final_text() -> None:
    asked = prompt(0, "Write.", Message(role="system", content="Be kind."))
    texts = [extended("Final one.", "Draft one.", 0, 0), extended("Final two.", "Draft two.", 0, 1)]
    groups = [(asked, texts), (prompt(1), [])]
    for selector in (GeneratorPairs(), ExtenderPairs(keep_lines=1)):
        made = examples(selector, groups)
        assert made[-1] == Dropped("p1", None, "no_extension")
        rows: list[RankedExample] = made[:-1]
        assert [(r.responses, r.target, r.prompt_id) for r in rows] == [
            (["Final one."], 0, "p0"), (["Final two."], 0, "p0")
        ]  # fmt: skip
        assert not any("Stage" in r.model_dump_json() for r in rows)
        assert {tuple(r.sources) for r in rows} == {("policy@1",)}
    assert [r.messages for r in examples(GeneratorPairs(), groups)[:2]] == [asked.messages] * 2
    # Word for word what the extender is asked when it draws.
    assert [r.messages for r in examples(ExtenderPairs(keep_lines=1), groups)[:2]] == [
        list(extend_request("en", asked, "Draft one.")), list(extend_request("en", asked, "Draft two."))
    ]  # fmt: skip


def thinned(draft: str, language: Language, seed: int = 0, **options: Any) -> str:
    """The draft as it stands in the extender's request."""
    (row,) = examples(
        ExtenderPairs(language=language, **options), [(prompt(), [extended("F.", draft)])], seed
    )
    (frame,) = extend_request(language, prompt(), "|")
    before, after = frame.content.split("|")
    asked: str = row.messages[0].content
    assert asked.startswith(before)
    assert asked.endswith(after)
    return asked[len(before) : len(asked) - len(after)]


@pytest.mark.parametrize(("language", "joint"), [("en", "\n"), ("zh", "\n\n")])
def test_four_of_five_lines_stay(language: Language, joint: str) -> None:
    lines = [f"line {n}" for n in range(4000)]
    kept = thinned("\n".join(lines), language).split(joint)
    assert 0.78 < len(kept) / 4000 < 0.82
    assert kept == [line for line in lines if line in set(kept)]
    assert thinned("\n".join(lines), language) == joint.join(kept)
    assert thinned("\n".join(lines), language, seed=1) != joint.join(kept)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("draft", ["Only line.", "One.\n\n\n\nTwo."])
def test_no_draft_is_thinned_to_nothing(language: Language, draft: str) -> None:
    seen = {thinned(draft, language, seed, keep_lines=0.2) for seed in range(200)}
    assert all(text.strip() for text in seen)
    assert draft in seen


def test_longest_distinct_answers() -> None:
    texts = [text_of(t, 0, n) for n, t in enumerate(["bb", "cccc", "aaaa", "cccc", "d" * 9, "b"])]
    groups = [(prompt(), texts), (prompt(1), [])]
    made = examples(Longest(n=3), groups)
    assert [r.responses[0] for r in made[:-1]] == ["d" * 9, "cccc", "aaaa"]
    assert made[-1] == Dropped("p1", None, "no_answer")
    assert [r.responses[0] for r in examples(Longest(), groups)[:-1]] == ["d" * 9]
    assert len(examples(Longest(n=9), groups)) == 5 + 1
