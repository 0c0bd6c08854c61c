"""Scorers of long texts: `text`, and the length scores of `longgen` and `longbench_write`.

All three put the same measures into `Score.meta`, as numbers or booleans; None is missing. A measure never
decides what is kept: rules that do are in `text_check`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

from pydantic import ValidationError

from itercli.errors import IterError
from itercli.records import Prompt, Score, Trajectory
from itercli.registry import register
from itercli.verifiers.base import Scorer
from itercli.verifiers.length import LengthLimit, longbench_score, longgen_score
from itercli.verifiers.text_check import Check
from itercli.verifiers.text_measures import MEASURES, Measures, compare, measure
from itercli.verifiers.words import Language, longbench_words, longgen_words


class NoLength(IterError, ValueError):
    """A prompt without a length that a score could go by."""


class TextScorer(Scorer):
    """Base of the scorers of long texts.

    Attributes:
        check: Language or rules; `passed` says whether the text breaks none, `outcome` names
            the first broken one. None leaves `passed` open.
        language: Wanted language; None is the prompt's own, ``meta["language"]`` or detected.
    """

    MEASURES: ClassVar[tuple[str, ...]] = MEASURES

    check: Check | None = None
    language: Language | None = None

    def leaves_open(self) -> tuple[str, ...]:
        return () if self.check else ("Score.passed",)

    def open(self) -> TextJudge:
        return TextJudge(self)

    @abstractmethod
    def value(self, prompt: Prompt, text: str, measures: Measures) -> float:
        """The score of a text; may add to its measures.

        Raises:
            NoLength: The prompt lacks the length that the score goes by.
        """


class TextJudge:
    """An opened scorer of long texts; holds nothing, so it is thread-safe."""

    def __init__(self, options: TextScorer) -> None:
        self.options = options

    def score(self, prompt: Prompt, trajectory: Trajectory) -> Score:
        """Measure one completion."""
        text = trajectory.completion
        failed = self.options.check.failed(text) if self.options.check else None
        asked = prompt.messages[-1].content if prompt.messages else ""
        language = self.options.language or prompt.meta.get("language")
        measures = measure(text, asked, language if language in ("en", "zh") else None)
        measures |= {
            "finished": trajectory.finish == "stop",
            "check_ok": None if failed is None else not failed,
        }
        draft = trajectory.meta.get("draft")
        measures |= compare(draft if isinstance(draft, str) else None, text)
        value = self.options.value(prompt, text, measures)
        return Score(
            prompt_id=trajectory.prompt_id,
            index=trajectory.index,
            completion=text,
            policy=trajectory.policy,
            value=value,
            passed=None if failed is None else not failed,
            outcome="" if failed is None else (*failed, "pass")[0],
            message=", ".join(failed or ()),
            answer=text,
            meta={name: round(n, 6) if isinstance(n, float) else n for name, n in measures.items()},
        )

    def close(self) -> None:
        """Nothing to give back."""


@register("scorer", "text")
class Text(TextScorer):
    """Measures a text without a judge; the score is its number of words."""

    def value(self, prompt: Prompt, text: str, measures: Measures) -> float:
        return float(longgen_words(text))


@register("scorer", "longgen")
class LonGenScorer(TextScorer):
    """LonGen's length score, 0 to 1, by the limit in ``prompt.meta["length"]`` (`LengthLimit`)."""

    NEEDS: ClassVar[tuple[str, ...]] = ("Prompt.meta.length",)
    MEASURES: ClassVar[tuple[str, ...]] = (*MEASURES, "length_score")

    def objection(self, prompt: Prompt) -> str:
        return _objection(lambda: self._limit(prompt))

    def value(self, prompt: Prompt, text: str, measures: Measures) -> float:
        score = measures["length_score"] = longgen_score(longgen_words(text), self._limit(prompt))
        return score

    def _limit(self, prompt: Prompt) -> LengthLimit:
        try:
            return LengthLimit.model_validate(prompt.meta.get("length"))
        except ValidationError as error:
            raise NoLength(
                f"prompt {prompt.id!r} has no length limit in meta['length'] "
                f"({prompt.meta.get('length')!r}): {error.errors()[0]['msg']}. Give it one, as "
                "{kind: about, n: 3000}, take data=longgen, or score with `text`"
            ) from error


@register("scorer", "longbench_write")
class LongBenchScorer(TextScorer):
    """LongBench-Write's length score S_l, 0 to 100, by the words in ``prompt.meta["required"]``.

    Without that field a limit "about" n words in ``prompt.meta["length"]`` counts.
    """

    MEASURES: ClassVar[tuple[str, ...]] = (*MEASURES, "length_score", "longbench_words")

    def objection(self, prompt: Prompt) -> str:
        return _objection(lambda: self._required(prompt))

    def value(self, prompt: Prompt, text: str, measures: Measures) -> float:
        words = longbench_words(text)
        measures["longbench_words"] = words
        score = measures["length_score"] = longbench_score(self._required(prompt), words)
        return score

    def _required(self, prompt: Prompt) -> float:
        limit = prompt.meta.get("length")
        about = limit.get("n") if isinstance(limit, dict) and limit.get("kind") == "about" else None
        required = prompt.meta.get("required", about)
        if isinstance(required, bool) or not isinstance(required, int | float) or required <= 0:
            raise NoLength(
                f"prompt {prompt.id!r} has no required length in meta['required'] ({required!r}): give it "
                "one in words, take data=longbench_write, or score with `text`"
            )
        return required


def _objection(read: Callable[[], object]) -> str:
    try:
        read()
    except NoLength as error:
        return str(error)
    return ""
