"""Word counters and the units of n-grams."""

from __future__ import annotations

import json

import pytest

from itercli.verifiers.words import characters, longbench_words, longgen_words, tokens, units


def test_golden_cases(shared_data) -> None:  # type: ignore[no-untyped-def]
    cases = json.loads((shared_data("self_lengthen") / "golden_cases.json").read_text())["filter_cases"]
    assert cases
    for case in cases:
        assert longgen_words(case["text"]) == case["words"], case["text"]


@pytest.mark.parametrize(
    ("text", "longgen", "longbench"),
    [
        ("", 0, 0),
        (" \n", 0, 0),
        ("Well, it's 42 times state-of-the-art.", 5, 8),  # it|s, and the four parts of the last word
        ("第3章：AI技术。", 8, 4),  # 第章技术 and AI stuck to an ideograph; marks count in LonGen only
        ("第 3 章：AI 技术", 7, 5),
        ("１２３ abc１", 5, 0),
        ("a\u3000b", 3, 2),
        ("“引号”", 4, 2),  # curly quotes are not wide: split off
    ],
)
def test_counters(text: str, longgen: int, longbench: int) -> None:
    assert longgen_words(text) == longgen
    assert longbench_words(text) == longbench


def test_counts_add_up_over_blank_lines() -> None:
    parts = ["One two.", "三四。", "five 六 seven"]
    assert longgen_words("\n\n".join(parts)) == sum(map(longgen_words, parts))
    assert longbench_words("\n\n".join(parts)) == sum(map(longbench_words, parts))


def test_units() -> None:
    assert characters("ab c中文\n1。") == ["ab c", "中", "文", "\n1", "。"]
    assert characters("") == []
    text = "é is one unit, 中 another"
    assert "".join(characters(text)) == text
    assert units("a b  中文", "words") == ["a", "b", "中文"]
    assert units("a b  中文", "characters") == ["a b  ", "中", "文"]
    assert tokens("a b中文，c\u3000d") == ["a", "b", "中", "文", "，", "c", "d"]
