"""Length limits in words: phrases for them, and reading them back out of a text.

English and Chinese. Reading is what keeps a rewritten instruction honest: whatever a model
made of it, the limits that it states must be the one that was asked for and no other.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from itercli.papers.self_lengthen.wording import Language
from itercli.verifiers.length import Kind, LengthLimit

# Gaps: {a} is the number, or the lower one; {b} the upper one of a range.
PHRASES: dict[Language, dict[Kind, tuple[str, ...]]] = {
    "en": {
        "about": ("about {a} words", "around {a} words", "roughly {a} words", "approximately {a} words"),
        "range": ("between {a} and {b} words", "{a} to {b} words", "{a}-{b} words"),
        "above": ("more than {a} words", "over {a} words", "at least {a} words"),
        "below": ("less than {a} words", "under {a} words", "no more than {a} words"),
    },
    "zh": {
        "about": ("大约{a}字", "{a}字左右", "约{a}字"),
        "range": ("{a}到{b}字", "{a}至{b}字之间", "{a}-{b}字"),
        "above": ("{a}字以上", "超过{a}字", "不少于{a}字"),
        "below": ("{a}字以内", "少于{a}字", "不超过{a}字"),
    },
}
# A sentence that can follow any instruction; gap {limit} is a phrase from above.
SENTENCES: dict[Language, tuple[str, ...]] = {
    "en": (
        "Please write {limit}.",
        "The text should have {limit}.",
        "Length: {limit}.",
        "Aim for {limit} in all.",
    ),
    "zh": ("请写{limit}。", "全文{limit}。", "篇幅要求：{limit}。", "字数控制在{limit}。"),
}

# Below this, a number of words is about a part ("a title of five words"), not about the text.
SMALLEST = 20
_EN_NUMBER = r"\d[\d,]*(?:\.\d+)?k?|(?:[a-z]+[ -])?(?:hundred|thousand)"
_ZH_NUMBER = r"\d[\d,，]*(?:\.\d+)?[百千万]?|[〇零一二两三四五六七八九十百千万]+"
_STATED: dict[Language, re.Pattern[str]] = {
    "en": re.compile(
        rf"(?<![\w.])({_EN_NUMBER})(?:\s*(?:-|–|—|~|to|and)\s*({_EN_NUMBER}))?[\s-]*"
        r"(?:words?|characters?|letters?|tokens?|pages?)\b",
        re.IGNORECASE,
    ),
    "zh": re.compile(
        rf"({_ZH_NUMBER})(?:[字词]?\s*(?:-|–|—|~|～|到|至|和)\s*({_ZH_NUMBER}))?\s*[多余来]?个?(?:汉字|字符?|词|页)"
    ),
}
_BELOW = {
    "en": r"\b(?:no|not) more than|\bnot? (?:to )?exceed|\bat most|\bup to|\bunder|\bbelow|\bwithin|\bmax"
    r"|(?<!no )(?<!not )\b(?:less|fewer|shorter) than|\bor (?:less|fewer|under)",
    "zh": r"不超过|不多于|不到|不满|以内|以下|之内|(?<!不)少于|(?<!不)低于|(?<!不)小于|至多|最多",
}
_ABOVE = {
    "en": r"\b(?:no|not) (?:less|fewer) than|\bat least|\bminimum|\bover|\babove|\bexceed|\bupwards? of"
    r"|(?<!no )(?<!not )\b(?:more|longer) than|\bor (?:more|longer|over)",
    "zh": r"不少于|不低于|不小于|以上|(?<!不)超过|(?<!不)多于|大于|至少|最少",
}
# Characters before and after the number in which words like "at least" belong to it.
_NEAR = {"en": (24, 14), "zh": (6, 6)}
_SENTENCE_END = re.compile(r"[.!?;。！？；\n]")
_DIGITS = "零一二三四五六七八九"
_PLACES = {"十": 10, "百": 100, "千": 1000, "万": 10_000}


@dataclass(frozen=True, slots=True)
class Stated:
    """A limit as a text states it; `numbers` is one number, or the two ends of a range."""

    kind: Kind
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, limit: LengthLimit) -> Stated:
        """How a text that states this limit reads."""
        return cls(limit.kind, tuple(n for n in (limit.n, limit.low, limit.high) if n is not None))


def say(stated: Stated, language: Language, rng: random.Random, *, numerals: bool = False) -> str:
    """One of the phrases for a limit.

    Args:
        numerals: Chinese numerals; otherwise digits, in English half of the time with thousands separators.
    """
    separator = "," if language == "en" and rng.random() < 0.5 else ""
    written = [chinese_numeral(n) if numerals else f"{n:{separator}}" for n in stated.numbers]
    phrase = rng.choice(PHRASES[language][stated.kind])
    return phrase.format(a=written[0], b=written[-1])


def read(text: str, language: Language) -> list[Stated]:
    """All length limits that a text states, in order; a number that is not understood is 0."""
    found = []
    before, after = _NEAR[language]
    for match in _STATED[language].finditer(text):
        numbers = tuple(_number(part) for part in match.groups() if part)
        if 0 < max(numbers) < SMALLEST:
            continue
        # Of the words around it, those of its own sentence.
        left = _SENTENCE_END.split(text[max(0, match.start() - before) : match.start()])[-1]
        right = _SENTENCE_END.split(text[match.end() : match.end() + after])[0]
        near = re.sub("不[得能可要应]", "不", f"{left}#{right}")
        kind: Kind = "about"
        if len(numbers) == 2:
            kind = "range"
        elif re.search(_BELOW[language], near, re.IGNORECASE):
            kind = "below"
        elif re.search(_ABOVE[language], near, re.IGNORECASE):
            kind = "above"
        found.append(Stated(kind, numbers))
    return found


def without_limits(text: str, language: Language) -> str:
    """The text with its stated limits cut out."""
    return _STATED[language].sub(" ", text)


def chinese_numeral(n: int) -> str:
    """A number from 1 to 99,999,999 in Chinese numerals, for example 2500 -> 二千五百."""
    if n >= 10_000:
        high, low = divmod(n, 10_000)
        gap = "零" if 0 < low < 1000 else ""
        return chinese_numeral(high) + "万" + (gap + chinese_numeral(low) if low else "")
    text, skipped = "", False
    for place, sign in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit, n = divmod(n, place)
        if digit:
            text += ("零" if skipped else "") + _DIGITS[digit] + sign
        skipped = not digit and bool(text)
    return text.removeprefix("一") if text.startswith("一十") else text


def _number(text: str) -> int:
    text = re.sub(r"[,，\s]", "", text).lower()
    if plain := re.fullmatch(r"(\d+(?:\.\d+)?)([k百千万]?)", text):
        return round(float(plain[1]) * {"": 1, "k": 1000, **_PLACES}[plain[2]])
    total = section = digit = 0
    for sign in text.replace("两", "二").replace("〇", "零"):
        if sign in _DIGITS:
            digit = _DIGITS.index(sign)
        elif sign == "万":
            total, section, digit = (total + section + digit) * 10_000, 0, 0
        elif sign in _PLACES:
            section, digit = section + max(digit, 1) * _PLACES[sign], 0
        else:
            return 0  # an English number in words
    return total + section + digit
