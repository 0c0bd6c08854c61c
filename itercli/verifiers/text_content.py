"""What a text says, held against its prompt, its draft and the wanted language; without a judge."""

from __future__ import annotations

import re

from itercli.verifiers.text_structure import headings
from itercli.verifiers.words import IDEOGRAPH, Language, tokens

LATIN_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?", re.IGNORECASE)
IDEOGRAPHS = re.compile(r"[\u4e00-\u9fff]+")
# A run of this many words is hardly written twice by chance.
ECHO_NGRAM: dict[str, int] = {"en": 5, "zh": 10}
CONTENT_LETTERS = 4  # shorter Latin words are mostly function words
FUNCTION_WORDS = frozenset(
    """
    about after again also another because been before being between both could does doing down during
    each even every from further have having here however into itself just like made make many more most
    much must only other over same should since some such than that their them themselves then there these
    they this those through thus under until upon very well were what when where which while whom will with
    within without would your yours
    """.split()  # noqa: SIM905
)

OPENING = 200  # characters in which a refusal shows
REFUSALS = (
    "i'm sorry", "i am sorry", "i apologize", "i can't", "i cannot", "i'm unable", "i am unable",
    "i'm not able", "i am not able", "as an ai", "as a language model",
    "抱歉", "对不起", "很遗憾", "作为一个ai", "作为ai", "作为一个人工智能", "作为人工智能",
    "我无法", "我不能",
)  # fmt: skip
META_PHRASES = (
    "here is the revised", "here's the revised", "here is a revised", "here is the expanded",
    "here is an expanded", "here's an expanded", "here is the extended", "here is an extended",
    "word count:", "words in total", "i hope this helps", "let me know if", "feel free to ask",
    "would you like me to", "continued in the next", "to be continued", "(continued)", "[continue",
    "以下是扩展", "以下是修改", "以下是改写", "以下是润色", "字数：", "字数统计", "希望这篇", "希望以上",
    "希望对你有", "如有需要", "如果您需要", "未完待续",
)  # fmt: skip
ENDS = 2  # lines at each end in which talk about the text shows


def detect_language(text: str) -> Language:
    """Chinese where ideographs outnumber Latin words, else English."""
    return "zh" if len(IDEOGRAPH.findall(text)) > len(LATIN_WORD.findall(text)) else "en"


def language_match(text: str, language: Language) -> float | None:
    """Share of words in the wanted script, 0 to 1: ideographs against Latin words. None without any."""
    wide, latin = len(IDEOGRAPH.findall(text)), len(LATIN_WORD.findall(text))
    if not wide + latin:
        return None
    return (wide if language == "zh" else latin) / (wide + latin)


def echo(prompt: str, text: str, n: int) -> float | None:
    """Share of the prompt's distinct n-grams that the text copies, 0 to 1, case aside.

    A prompt shorter than n words is one n-gram. None for an empty prompt.
    """
    asked, written = tokens(prompt.casefold()), tokens(text.casefold())
    n = min(n, len(asked))
    if not n:
        return None
    wanted = {tuple(asked[at : at + n]) for at in range(len(asked) - n + 1)}
    found = {tuple(written[at : at + n]) for at in range(len(written) - n + 1)}
    return len(wanted & found) / len(wanted)


def starts_with(prompt: str, text: str) -> bool:
    """Whether the text begins by repeating the whole prompt, case and spaces aside."""
    asked = tokens(prompt.casefold())
    return bool(asked) and tokens(text.casefold())[: len(asked)] == asked


def content_words(text: str) -> set[str]:
    """What a text is about: longer Latin words but function words, and pairs of ideographs."""
    latin = {w.casefold() for w in LATIN_WORD.findall(text) if len(w) >= CONTENT_LETTERS}
    pairs = {run[i : i + 2] for run in IDEOGRAPHS.findall(text) for i in range(len(run) - 1)}
    return (latin - FUNCTION_WORDS) | pairs


def retention(draft: str, text: str) -> float | None:
    """Share of the draft's distinct content words that the text still has, 0 to 1.

    Low where a text was to be enriched and was replaced or continued instead. None for a
    draft without content words.
    """
    wanted = content_words(draft)
    return len(wanted & content_words(text)) / len(wanted) if wanted else None


def headings_kept(draft: str, text: str) -> float | None:
    """Share of the draft's headings that the text still has, case aside; None if it has none."""
    wanted = {h.title.casefold() for h in headings(draft)}
    return len(wanted & {h.title.casefold() for h in headings(text)}) / len(wanted) if wanted else None


def refusal(text: str) -> str | None:
    """The phrase with which the text opens as a refusal, or None."""
    return _first(REFUSALS, text.lstrip()[:OPENING])


def meta_phrase(text: str) -> str | None:
    """A phrase in the first or last lines that talks about the text or to the user, or None."""
    lines = [line for line in text.split("\n") if line.strip()]
    return _first(META_PHRASES, "\n".join([*lines[:ENDS], *lines[ENDS:][-ENDS:]]))


def _first(phrases: tuple[str, ...], text: str) -> str | None:
    plain = text.casefold().replace("’", "'")
    return next((phrase for phrase in phrases if phrase in plain), None)
