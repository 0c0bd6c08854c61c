"""Weaving a length limit into an instruction: the question, and whether the answer will do."""

from __future__ import annotations

import random
import re

from itercli.papers.self_lengthen.limit_text import SENTENCES, Stated, read, say, without_limits
from itercli.papers.self_lengthen.wording import Language
from itercli.records import Message

# Asked for first, then shown: a small model needs examples, and a large one does not mind.
_TASK: dict[Language, str] = {
    "en": (
        "You rewrite requests to a writer so that they also say how long the text is to be. Everything else "
        "that a request asks for stays; if it names another length, that one goes. You never carry out a "
        "request. You answer with the rewritten request and nothing else."
    ),
    "zh": (
        "你负责改写给写作者的请求，使它同时说明篇幅。请求的其他内容都要保留；如果其中已有别的字数要求，就去掉。"
        "不要执行请求，只输出改写后的请求。"
    ),
}
_ASK: dict[Language, str] = {
    "en": 'Put "{limit}" into this request, {place}: {query}',
    "zh": "把“{limit}”写进这条请求，{place}：{query}",
}
# Per place of the limit: request, limit, rewritten request.
_SHOWN: dict[Language, dict[str, tuple[tuple[str, str, str], ...]]] = {
    "en": {
        "said first": (
            (
                "Explain how a lighthouse works.",
                "about 700 words",
                "In about 700 words, explain how a lighthouse works.",
            ),
            (
                "I need a speech for my sister's wedding. She is a vet.",
                "at least 400 words",
                "With at least 400 words to fill, I need a speech for my sister's wedding. She is a vet.",
            ),
        ),
        "said last": (
            (
                "Write a story about two rival beekeepers.",
                "under 1,500 words",
                "Write a story about two rival beekeepers. Please keep it under 1,500 words.",
            ),
            (
                "Compare trains and ferries for a family holiday, with costs.",
                "600 to 800 words",
                "Compare trains and ferries for a family holiday, with costs. Something like 600 to 800 "
                "words would be ideal.",
            ),
        ),
        "said in passing": (
            (
                "Write a 300-word report on the school garden.",
                "between 900 and 1000 words",
                "Write a report of between 900 and 1000 words on the school garden.",
            ),
            (
                "Draft a letter to the council about the broken street lamps.",
                "more than 250 words",
                "Draft a letter to the council, more than 250 words long, about the broken street lamps.",
            ),
        ),
    },
    "zh": {
        "放在开头": (
            ("请介绍灯塔的工作原理。", "大约700字", "请用大约700字介绍灯塔的工作原理。"),
            (
                "为我妹妹的婚礼写一篇致辞，她是兽医。",
                "四百字以上",
                "写一篇四百字以上的致辞，用于我妹妹的婚礼，她是兽医。",
            ),
        ),
        "放在结尾": (
            (
                "写一个关于两位养蜂人的故事。",
                "少于1500字",
                "写一个关于两位养蜂人的故事，篇幅请控制在少于1500字。",
            ),
            (
                "比较家庭出游时坐火车和坐轮船的花费。",
                "六百到八百字",
                "比较家庭出游时坐火车和坐轮船的花费，最好写六百到八百字。",
            ),
        ),
        "放在句子中间": (
            (
                "写一篇300字的校园菜地报告。",
                "900到1000字",
                "写一篇900到1000字的校园菜地报告。",
            ),
            (
                "给街道办写一封信，反映路灯损坏的问题。",
                "不少于250字",
                "给街道办写一封不少于250字的信，反映路灯损坏的问题。",
            ),
        ),
    },
}
_WRAPPED = re.compile(r"^(?:rewritten request|request|改写后的请求|请求)\s*[:：]\s*", re.IGNORECASE)
_QUOTES = {'"': '"', "“": "”", "「": "」"}


def question(
    query: str, stated: Stated, language: Language, rng: random.Random, *, numerals: bool
) -> tuple[Message, ...]:
    """Asks for the limit to be woven in, with wording and place drawn at random."""
    shown = _SHOWN[language]
    turns = [Message(role="system", content=_TASK[language])]
    for place in rng.sample(sorted(shown), len(shown)):
        request, limit, rewritten = rng.choice(shown[place])
        asked = _ASK[language].format(query=request, limit=limit, place=place)
        turns += [Message(role="user", content=asked), Message(role="assistant", content=rewritten)]
    said = say(stated, language, rng, numerals=numerals)
    place = rng.choice(sorted(shown))
    asked = _ASK[language].format(query=query, limit=said, place=place)
    return (*turns, Message(role="user", content=asked))


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
    if len(kept) < keeps * len(wanted):
        return "lost content"
    # Small models run on from their request into one of those that they were shown.
    shown = (_content(without_limits(r, language)) for of in _SHOWN[language].values() for r, _, _ in of)
    return "copied an example" if any(len(words & _content(answer) - wanted) > 2 for words in shown) else ""


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
