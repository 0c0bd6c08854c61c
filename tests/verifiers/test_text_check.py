"""The filter of long texts: presets, each rule, and properties on random texts."""

from __future__ import annotations

import json
import random

import pytest
from pydantic import ValidationError

from itercli.verifiers.text_check import PRESETS, Check, closed, meta_word, repeated_ngram


def test_golden_cases(shared_data) -> None:  # type: ignore[no-untyped-def]
    cases = json.loads((shared_data("self_lengthen") / "golden_cases.json").read_text())["filter_cases"]
    assert cases
    for case in cases:
        for language in PRESETS:
            accepted = Check.of(language).accepts(case["text"])  # type: ignore[arg-type]
            assert accepted is case[f"accept_{language}_rule"], (language, case["text"])


def test_presets_and_overrides() -> None:
    assert Check.model_validate("zh") == Check.of("zh")
    assert Check.of("zh").unit == "characters"
    assert Check.of("en").ngram == 10
    mine = Check.model_validate({"language": "en", "ngram": 12, "meta_words": ["draft"]})
    assert (mine.ngram, mine.meta_words, mine.closing) == (12, ("draft",), Check.of("en").closing)
    assert Check.model_validate({"ngram": 3}).language == "en"
    assert Check.model_validate(mine.model_dump(mode="json")) == mine
    assert Check.model_validate(mine) is mine


@pytest.mark.parametrize(
    ("value", "field"),
    [("de", "language"), ({"ngrams": 3}, "ngrams"), ({"ngram": -1}, "ngram"), ({"unit": "bytes"}, "unit")],
)
def test_wrong_options_are_located(value: object, field: str) -> None:
    with pytest.raises(ValidationError) as error:
        Check.model_validate(value)
    assert [e["loc"] for e in error.value.errors()] == [(field,)]


def test_each_rule_by_name() -> None:
    check = Check.of("en", ngram=3)
    assert check.failed(" \n") == ("empty",)
    assert check.failed("A b c") == ("closing",)
    assert check.failed("My revised text.") == ("meta_words",)
    assert check.failed("a b c x a b c.") == ()
    assert check.failed("a b c x a b c x.") == ("repeated_ngram",)
    assert check.failed("the version a b c a b c") == ("closing", "meta_words", "repeated_ngram")


def test_every_rule_can_be_switched_off() -> None:
    bad = "the version a b c a b c"
    rules = {"closing": "", "meta_words": (), "ngram": 0}
    names = ("closing", "meta_words", "repeated_ngram")
    check = Check.of("en", ngram=3)
    for rule, name in zip(rules, names, strict=True):
        relaxed = check.model_copy(update={rule: rules[rule]})
        assert relaxed.failed(bad) == tuple(n for n in names if n != name)
    assert Check.of("en", **rules).accepts(bad)
    assert Check.of("en", meta_first_lines=0, meta_last_lines=0).accepts("my version.")


def test_closing() -> None:
    assert closed("x.  \n", ".!")
    assert not closed("x", ".!")
    assert not closed("", ".!")
    assert closed("x", "")


def test_meta_words_at_both_ends_only() -> None:
    lines = [f"line {i}" for i in range(12)]
    for at in range(12):
        text = "\n".join([*lines[:at], "a conversion", *lines[at + 1 :]])
        assert (meta_word(text, ("version",), 2, 3) == "version") is (at < 2 or at >= 9)
    assert meta_word("version\n\n\nb\nc\nd\n\n \n", ("version",), 0, 3) is None
    assert meta_word("version", ("version",), 0, 9) == "version"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_planted_ngrams(language: str) -> None:
    """Distinct tokens never repeat; an n-gram planted twice does, one shorter by 1 does not."""
    draw = random.Random(f"check {language}")
    check = Check.of(language)  # type: ignore[arg-type]
    for _ in range(200):
        size = draw.randint(40, 300)
        if language == "en":
            parts, glue = [f"w{i}" for i in draw.sample(range(10_000), size)], " "
        else:
            parts, glue = [chr(i) for i in draw.sample(range(0x4E00, 0x9FFF), size)], ""
        end = ". " if language == "en" else "。"
        text = glue.join(parts)
        assert repeated_ngram(text, check.ngram, check.unit) is None
        start = draw.randrange(size - check.ngram)
        # Planted whole, and shorter by one; a fresh token on both sides keeps neighbours distinct.
        for n, bad in ((check.ngram, True), (check.ngram - 1, False)):
            planted = [*parts, "甲x乙", *parts[start : start + n], "丙y丁" + end]
            assert ("repeated_ngram" in check.failed(glue.join(planted))) is bad
