"""All measures of a text that need no judge, by the names that metrics have."""

from __future__ import annotations

from itercli.verifiers import text_content as content
from itercli.verifiers import text_quality as quality
from itercli.verifiers.text_structure import structure
from itercli.verifiers.words import Language, longgen_words, tokens

Measures = dict[str, float | None]

MEASURES = (
    "words", "finished", "check_ok",
    "rep_4", "rep_10", "longest_repeat", "dup_sentences", "dup_paragraphs", "distinct_1", "distinct_2",
    "compression",
    "paragraphs", "headings", "structure_ok", "numbering_ok", "fences_ok", "sections_ok", "tables_ok",
    "closing_section",
    "echo", "starts_with_prompt", "language_match", "refusal", "meta_phrase",
    "ratio", "retention", "headings_kept",
)  # fmt: skip


def measure(text: str, prompt: str, language: Language | None = None) -> Measures:
    """What can be measured of a text and the prompt that it answers; None is missing.

    Args:
        language: Wanted language; None is that of the prompt.
    """
    language = language or content.detect_language(prompt)
    words, form = tokens(text), structure(text)
    return {
        "words": longgen_words(text),
        "rep_4": quality.rep_n(words, 4),
        "rep_10": quality.rep_n(words, 10),
        "longest_repeat": quality.longest_repeat(words),
        "dup_sentences": quality.duplicate_share(quality.sentences(text)),
        "dup_paragraphs": quality.duplicate_share(quality.paragraphs(text)),
        "distinct_1": quality.distinct_n(words, 1),
        "distinct_2": quality.distinct_n(words, 2),
        "compression": quality.compression(text),
        "paragraphs": form.paragraphs,
        "headings": form.headings,
        "structure_ok": form.ok,
        "numbering_ok": form.numbering,
        "fences_ok": form.fences,
        "sections_ok": form.sections,
        "tables_ok": form.tables,
        "closing_section": form.closing_section,
        "echo": content.echo(prompt, text, content.ECHO_NGRAM[language]),
        "starts_with_prompt": content.starts_with(prompt, text),
        "language_match": content.language_match(text, language),
        "refusal": content.refusal(text) is not None,
        "meta_phrase": content.meta_phrase(text) is not None,
    }


def compare(draft: str | None, text: str) -> Measures:
    """What became of a draft in its extension; None throughout without a draft."""
    if draft is None:
        return dict.fromkeys(("ratio", "retention", "headings_kept"))
    words = longgen_words(draft)
    return {
        "ratio": longgen_words(text) / words if words else None,
        "retention": content.retention(draft, text),
        "headings_kept": content.headings_kept(draft, text),
    }
