"""The filter that a long text must pass before anything learns from it, rule by rule.

The rules are those of Self-Lengthen's released code (QwenLM/Self-Lengthen, `check_response`; the
Llama pipeline is the preset `en`, the Qwen pipeline `zh`). They look at the text alone: no
language detection, no upper bound of the length. In a recipe::

    check: en
    check: {language: en, ngram: 12, meta_words: []}
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from itercli.verifiers.words import Language, Unit, units

FAILURES = ("empty", "closing", "meta_words", "repeated_ngram")

PRESETS: dict[str, dict[str, Any]] = {
    "en": {
        "closing": ".!?,;:-\"')]}>`",
        "meta_words": ("revised", "revision", "response", "version", "paragraph"),
        "ngram": 10,
        "unit": "words",
    },
    # Without ASCII . ! ? so that English text fails.
    "zh": {"closing": "。！？”’…）】)]}>`", "meta_words": (), "ngram": 13, "unit": "characters"},
}


class Check(BaseModel):
    """What a text must fulfil: a language's preset, with any rule replaced.

    Built from a language's name or from fields; fields that are not given are the preset's.
    A text without any visible character fails always.

    Attributes:
        language: Whose preset it is.
        closing: Characters that may end the text (trailing whitespace aside); "" allows any.
        meta_words: Case-sensitive substrings that betray talk about the text; empty is off.
        meta_first_lines: Lines at the start in which meta words are looked for.
        meta_last_lines: The same at the end.
        ngram: No n-gram of this many units may occur twice in the text; 0 is off.
        unit: What n-grams are made of (`words.units`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    language: Language = "en"
    closing: str
    meta_words: tuple[str, ...]
    meta_first_lines: int = Field(2, ge=0)
    meta_last_lines: int = Field(3, ge=0)
    ngram: int = Field(ge=0)
    unit: Unit

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"language": value}
        if not isinstance(value, dict):
            return value
        # An unknown language is reported as such; the other fields then need some valid value.
        preset = PRESETS.get(str(value.get("language", "en")), PRESETS["en"])
        return preset | value

    @classmethod
    def of(cls, language: Language, **rules: Any) -> Check:
        """A language's preset, with rules replaced."""
        return cls.model_validate({"language": language, **rules})

    def failed(self, text: str) -> tuple[str, ...]:
        """Names of the rules that the text breaks, in the order of `FAILURES`."""
        text = text.rstrip()
        if not text:
            return ("empty",)
        meta = meta_word(text, self.meta_words, self.meta_first_lines, self.meta_last_lines)
        found = {
            "closing": not closed(text, self.closing),
            "meta_words": meta is not None,
            "repeated_ngram": repeated_ngram(text, self.ngram, self.unit) is not None,
        }
        return tuple(name for name, bad in found.items() if bad)

    def accepts(self, text: str) -> bool:
        """Whether the text breaks no rule."""
        return not self.failed(text)


def closed(text: str, closing: str) -> bool:
    """Whether the last visible character is one of `closing`; any will do if there are none."""
    return not closing or text.rstrip()[-1:] in tuple(closing)


def meta_word(text: str, words: tuple[str, ...], first: int, last: int) -> str | None:
    """The first of `words` in the first or last lines of a text (blank lines count), or None."""
    lines = text.rstrip().split("\n")
    where = [*lines[:first], *lines[max(0, len(lines) - last) :]]
    return next((word for word in words if any(word in line for line in where)), None)


def repeated_ngram(text: str, n: int, unit: Unit) -> tuple[str, ...] | None:
    """The first n-gram that has occurred before (overlaps count), or None; n = 0 looks for none."""
    parts = units(text.rstrip(), unit)
    seen: set[tuple[str, ...]] = set()
    for start in range(len(parts) - n + 1 if n else 0):
        ngram = tuple(parts[start : start + n])
        if ngram in seen:
            return ngram
        seen.add(ngram)
    return None
