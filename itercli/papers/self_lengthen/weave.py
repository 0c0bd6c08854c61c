"""Weaving a length limit into an instruction: the question, and whether the answer will do."""

from __future__ import annotations

import random
import re

from itercli.papers.self_lengthen.limit_text import SENTENCES, Stated, read, say, without_limits
from itercli.papers.self_lengthen.wording import Language

# Gaps: query, limit, place.
_WEAVE: dict[Language, str] = {
    "en": (
        "Below is a request to a writer. Rewrite it so that it also says how long the text is to be: "
        "{limit}. {place} Everything else that the request asks for stays. If it names another length, "
        "that one goes. Do not carry out the request; answer with the rewritten request and nothing else."
        "\n\n{query}"
    ),
    "zh": (
        "下面是给写作者的一条请求。请改写它，使它同时说明篇幅：{limit}。{place}请求的其他内容都要保留；"
        "如果其中已有别的字数要求，就去掉。不要执行这条请求，只输出改写后的请求。\n\n{query}"
    ),
}
_PLACES: dict[Language, tuple[str, ...]] = {
    "en": (
        "Say it at the beginning.",
        "Say it at the end.",
        "Say it in passing, in the middle of a sentence.",
        "Say it in a sentence of its own.",
        "Say it plainly, as a requirement.",
        "Say it politely, as a wish.",
    ),
    "zh": (
        "放在开头。",
        "放在结尾。",
        "自然地放在句子中间。",
        "单独用一句话说明。",
        "语气直接，作为硬性要求。",
        "语气委婉，作为希望。",
    ),
}
_WRAPPED = re.compile(r"^(?:rewritten request|request|改写后的请求|请求)\s*[:：]\s*", re.IGNORECASE)
_QUOTES = {'"': '"', "“": "”", "「": "」"}


def question(query: str, stated: Stated, language: Language, rng: random.Random, *, numerals: bool) -> str:
    """Asks for the limit to be woven in, with wording and place drawn at random."""
    said = say(stated, language, rng, numerals=numerals)
    return _WEAVE[language].format(query=query, limit=said, place=rng.choice(_PLACES[language]))


def appended(query: str, stated: Stated, language: Language, rng: random.Random, *, numerals: bool) -> str:
    """The instruction with one of several fixed sentences after it."""
    said = say(stated, language, rng, numerals=numerals)
    space = " " if language == "en" else ""
    return query.rstrip() + space + rng.choice(SENTENCES[language]).format(limit=said)


def fault(
    query: str, answer: str, stated: Stated, language: Language, *, keeps: float, longest: float
) -> str:
    """Why a rewritten instruction is turned down, or an empty string.

    Args:
        keeps: Share of the instruction's content words that must remain.
        longest: Longest answer in characters: times the instruction, + 100.
    """
    found = read(answer, language)
    if not found:
        return "no limit"
    if any(f.numbers != stated.numbers for f in found):
        return "other number"
    if any(f.kind != stated.kind for f in found):
        return "other kind of limit"
    if len(answer) > longest * len(query) + 100:
        return "too long"
    wanted = _content(without_limits(query, language))
    kept = wanted & _content(answer)
    return "lost content" if len(kept) < keeps * len(wanted) else ""


def unwrapped(text: str) -> str:
    """An answer without the label and quotation marks that models like to put around it."""
    text = _WRAPPED.sub("", text.strip())
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[-1] not in text[1:-1]:
        text = text[1:-1]
    return text.strip()


def _content(text: str) -> frozenset[str]:
    """Words of four letters and more, and pairs of neighbouring ideographs."""
    words = re.findall(r"[^\W\d_\u4e00-\u9fff]{4,}", text.casefold())
    runs = re.findall(r"[\u4e00-\u9fff]{2,}", text)
    return frozenset(words) | {run[i : i + 2] for run in runs for i in range(len(run) - 1)}
