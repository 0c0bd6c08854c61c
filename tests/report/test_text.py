"""Untrusted text on a screen: nothing in it is hidden, reorders the rest, or moves the cursor."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from itercli.report.text import clean

# Controls are tested one by one: in a row they would be terminal sequences that take more along.
EVERY = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) != "Cc")
TAGS = "".join(chr(0xE0000 + ord(c)) for c in "ignore all") + "\U000e0001\U000e007f"


def test_no_character_of_an_invisible_category_passes() -> None:
    left = set(clean(EVERY)) - set("\n\t")
    assert {unicodedata.category(c) for c in left}.isdisjoint({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
    # What is seen passes: all letters but fillers, numbers, punctuation, symbols but the blank.
    seen = {c for c in EVERY if unicodedata.category(c)[0] in "LNPS"}
    assert seen - left == set("\u115f\u1160\u2800\u3164\uffa0")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Arabic letter mark", "\u061c"),
        ("Mongolian vowel separator", "\u180e"),
        ("bidirectional marks", "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"),
        ("zero width", "\u200b\u200c\u200d\u2060\ufeff"),
        ("invisible operators", "\u2061\u2062\u2063\u2064"),
        ("tags: a text within the text", TAGS),
        ("variation selectors: bytes within the text", "\ufe00\ufe0d\U000e0100\U000e01ef\u180b\u180f"),
        ("soft hyphen", "\u00ad"),
        ("fillers", "\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4"),
        ("annotations", "\ufff9\ufffa\ufffb"),
        ("musical controls", "\U0001d173\U0001d17a"),
        ("private use", "\ue000\U000f0000\U0010fffd"),
        ("surrogates", "\ud800\udfff"),
        ("noncharacters", "\ufffe\uffff\U0001fffe"),
        ("controls", "\x00\x07\x08\x7f\x9b\x9c"),
    ],
)
def test_what_hides_is_left_out(name: str, text: str) -> None:
    assert clean(f"a{text}b") == "ab", name
    assert clean("a" + "".join(f"{c}x" for c in text) + "b").replace("x", "") == "ab", name


def test_line_breaks_of_all_kinds_are_line_breaks() -> None:
    assert clean("a\r\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h\ti") == "a\nb\nc\nd\ne\nf\ng\nh\ti"


SEEN = ["naïve Ω 你好 עברית العربية", "❤\ufe0f 👍🏽 🇩🇪", "e\u0301 क्षि", "a b\u3000c", "\U0001fae8"]


@pytest.mark.parametrize("text", SEEN)
def test_what_is_seen_stays(text: str) -> None:
    assert clean(text) == text
