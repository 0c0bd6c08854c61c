"""How many words a text has, and what the n-grams of a text are made of.

Each benchmark counts in its own way, and scores are only comparable with the same counter.
"""

from __future__ import annotations

import re
from typing import Literal

Language = Literal["en", "zh"]
Unit = Literal["words", "characters"]
"""What an n-gram is made of: whitespace tokens, or the units of `characters`."""

# Ideographs, CJK punctuation, full-width forms.
WIDE = re.compile(r"[\u4e00-\u9fff\u3000-\u303f\uff00-\uffef]")
IDEOGRAPH = re.compile(r"[\u4e00-\u9fff]")
# `\b` does not part a Latin word from an ideograph or a digit beside it: such words don't count.
ALPHABETIC = re.compile(r"\b[a-zA-Z]+\b")
CHARACTER = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]")


def longgen_words(text: str) -> int:
    """LonGen's count: every ideograph, CJK punctuation mark and full-width form is 1, the rest is split.

    The loop of Self-Lengthen counts the same way (QwenLM/Self-Lengthen, `count_words`).
    """
    rest, wide = WIDE.subn(" ", text)
    return wide + len(rest.split())


def longbench_words(text: str) -> int:
    """LongBench-Write's count: ideographs, and words of ASCII letters only.

    Numbers, punctuation and words that touch an ideograph or a digit count 0 (THUDM/LongWriter,
    evaluation/pred.py).
    """
    return len(IDEOGRAPH.findall(text)) + len(ALPHABETIC.findall(text))


def characters(text: str) -> list[str]:
    """Units of Chinese n-grams: each non-ASCII character, each run of ASCII (spaces included)."""
    return CHARACTER.findall(text)


def units(text: str, unit: Unit) -> list[str]:
    """What the text's n-grams are made of."""
    return text.split() if unit == "words" else characters(text)


def tokens(text: str) -> list[str]:
    """Words of a text in any language: wide characters stand alone, the rest is split on whitespace.

    As `longgen_words`, without ideographic spaces.
    """
    return WIDE.sub(r" \g<0> ", text).split()
