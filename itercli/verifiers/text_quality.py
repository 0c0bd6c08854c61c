"""How repetitive a text is: measures without a judge, for any language.

Words are those of `words.tokens`: whitespace tokens as they stand, each ideograph alone. All
functions are pure. What a text says in relation to its prompt or draft is in `text_content`,
its outer form in `text_structure`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Hashable, Iterable, Sequence
from statistics import fmean

from itercli.verifiers.words import longgen_words

SHORTEST = 4  # words from which a sentence or paragraph counts: "Yes." may come again
WINDOW = 100  # words

# ASCII marks end a sentence only before whitespace (3.5, e.g.), full-width ones always.
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]”’]*\s+|(?<=[。！？…])[”’」』）】]*\s*|\n+")
BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")


def rep_n(words: Sequence[str], n: int) -> float:
    """Share of n-grams that are repetitions, 0 to 1: 1 - distinct / all; 0 where there are none."""
    total = len(words) - n + 1
    return 1 - len(_ngrams(words, n)) / total if total > 0 else 0.0


def distinct_n(words: Sequence[str], n: int, window: int = WINDOW) -> float | None:
    """Mean share of distinct n-grams, 0 to 1, over consecutive windows of `window` words.

    Over whole texts the value falls with their length, over fixed windows it doesn't; a last
    window that is not full is left out.

    Returns:
        None for a text shorter than one window: the value would not compare with others.
    """
    full = [words[at : at + window] for at in range(0, len(words) - window + 1, window)]
    return fmean(1 - rep_n(part, n) for part in full) if full else None


def longest_repeat(words: Sequence[str]) -> int:
    """Length in words of the longest span that occurs at least twice; overlaps count.

    Exact, in O(n log n): spans of 1, 2, 4 ... words are numbered so that equal spans have equal
    numbers, and the longest one is then put together from powers of two, largest first.
    """
    powers: list[list[int]] = []
    spans = _numbered(words)
    while _repeats(spans):
        powers.append(spans)
        spans = _numbered(zip(spans, spans[1 << (len(powers) - 1) :], strict=False))
    if not powers:
        return 0
    length, best = 1 << (len(powers) - 1), powers[-1]
    for power in reversed(range(len(powers) - 1)):
        longer = _numbered(zip(best, powers[power][length:], strict=False))
        if _repeats(longer):
            length, best = length + (1 << power), longer
    return length


def compression(text: str) -> float | None:
    """Size after zlib over size before, in UTF-8 bytes; low is repetitive. None for no text.

    It falls with length by itself: compare texts of about one length.
    """
    raw = text.encode("utf-8", "surrogatepass")
    return len(zlib.compress(raw, 9)) / len(raw) if raw else None


def sentences(text: str) -> list[str]:
    """The sentences of a text; a line break ends one."""
    return [part.strip() for part in SENTENCE_END.split(text) if part.strip()]


def paragraphs(text: str) -> list[str]:
    """The parts of a text between blank lines."""
    return [part.strip() for part in BLANK_LINES.split(text) if part.strip()]


def duplicate_share(parts: Iterable[str], shortest: int = SHORTEST) -> float:
    """Share of parts that already occurred, case and spaces aside; short parts don't count."""
    seen = [" ".join(part.casefold().split()) for part in parts if longgen_words(part) >= shortest]
    return 1 - len(set(seen)) / len(seen) if seen else 0.0


def _ngrams(words: Sequence[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + n]) for at in range(len(words) - n + 1)}


def _numbered(items: Iterable[Hashable]) -> list[int]:
    """Each item's number, equal for equal items, in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(item, len(numbers)) for item in items]


def _repeats(numbers: list[int]) -> bool:
    return len(set(numbers)) < len(numbers)
