"""The outer form of a long text, in Markdown or plain: what is broken or left open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from itercli.verifiers.text_quality import paragraphs

FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})(.*)")
MARKDOWN = re.compile(r"\s{0,3}(#{1,6})\s+(\S.*)")
CHAPTER = re.compile(r"(第[一二三四五六七八九十百\d]+[章节幕回部][^。！？\n]{0,40}|[Cc]hapter \w+\b.{0,60})")
CHINESE = re.compile(r"([一二三四五六七八九十]+、[^。！？\n]{1,30})")
BOLD = re.compile(r"\*\*([^*\n]{1,80})\*\*[:：]?")
# Lines of their own kind stand for headings below Markdown's six levels.
PLAIN = ((7, CHAPTER), (8, CHINESE), (9, BOLD))
# Two digits at most: a line that starts with a year is no item.
ITEM = re.compile(r"(\s*)(\d{1,2})(?:[.)](?=\s|$)|、|．)")
TABLE_RULE = re.compile(r"\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?")
CELL_BORDER = re.compile(r"(?<!\\)\|")
CLOSING = re.compile(
    r"\W*(in (conclusion|summary|closing)|to (conclude|sum up|summarize)|conclusions?\b|summary\b|epilogue\b"
    r"|(final|closing) (thoughts|words|remarks)|concluding\b|the end\b|overall,|ultimately,"
    r"|sincerely|yours|(best|kind) regards|结论|总结|结语|结束语|结尾|尾声|小结|总之|综上|总而言之"
    r"|最后，|此致)",
    re.IGNORECASE,
)
CLOSING_NUMBER = re.compile(
    r"[\s#*]*([\divx]+[.)、]|[一二三四五六七八九十]+、|第[一二三四五六七八九十\d]+[章节部分]+)?\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: `level` 1 is the outermost, `line` its number from 0."""

    level: int
    title: str
    line: int


@dataclass(frozen=True, slots=True)
class Structure:
    """What the form of a text is like.

    Attributes:
        paragraphs: Parts between blank lines that are not headings.
        numbering: Numbered items and headings go up by one, from 1.
        fences: Every code fence is closed.
        sections: No heading without text below it.
        tables: Every Markdown table has its rule line and rows of one width.
        closing_section: It ends with a conclusion, a summary or a greeting.
    """

    paragraphs: int
    headings: int
    numbering: bool
    fences: bool
    sections: bool
    tables: bool
    closing_section: bool

    @property
    def ok(self) -> bool:
        """Whether nothing is broken; stories need no closing section."""
        return self.numbering and self.fences and self.sections and self.tables


def structure(text: str) -> Structure:
    """All checks of a text."""
    _, balanced = _outside_fences(text)
    return Structure(
        paragraphs=sum(_heading(part) is None for part in paragraphs(text)),
        headings=len(headings(text)),
        numbering=numbering_ok(text),
        fences=balanced,
        sections=not empty_sections(text),
        tables=tables_ok(text),
        closing_section=has_closing_section(text),
    )


def headings(text: str) -> list[Heading]:
    """Headings outside of code: Markdown's, lines in bold, chapters and Chinese section marks."""
    found = ((number, _heading(line)) for number, line in _outside_fences(text)[0])
    return [Heading(*heading, number) for number, heading in found if heading]


def numbering_ok(text: str) -> bool:
    """Whether each number at the start of a line follows the one before at its place, or is 1.

    Places are indents and heading levels. Numbers that all are 1 are Markdown's own way.
    """
    last: dict[tuple[int, int], int] = {}
    for _, line in _outside_fences(text)[0]:
        heading = _heading(line)
        level, content = heading or (0, line)
        item = ITEM.match(content)
        if item is None:
            continue
        place, number = (level, len(item[1])), int(item[2])
        if number not in (1, last.get(place, 0) + 1):
            return False
        last = {p: n for p, n in last.items() if p[0] != level or p[1] <= place[1]} | {place: number}
    return True


def empty_sections(text: str) -> list[Heading]:
    """Headings followed by nothing, or by a heading that is not below them."""
    lines = text.split("\n")
    found = headings(text)
    empty = []
    for heading, after in pairwise([*found, None]):
        assert heading is not None
        end = after.line if after else len(lines)
        bare = not any(line.strip() for line in lines[heading.line + 1 : end])
        if bare and (after is None or after.level <= heading.level):
            empty.append(heading)
    return empty


def tables_ok(text: str) -> bool:
    """Whether each block of lines that start with a bar is a whole Markdown table."""
    for rows in _tables(text):
        widths = {len(CELL_BORDER.findall(row)) for row in rows}
        if len(rows) < 2 or len(widths) > 1 or not TABLE_RULE.fullmatch(rows[1]):
            return False
    return True


def has_closing_section(text: str) -> bool:
    """Whether the last heading or the last or last but one paragraph opens as an ending does."""
    last = [heading.title for heading in headings(text)[-1:]] + paragraphs(text)[1:][-2:]
    return any(CLOSING.match(CLOSING_NUMBER.sub("", part, count=1)) for part in last)


def _outside_fences(text: str) -> tuple[list[tuple[int, str]], bool]:
    """Numbered lines that are not code, and whether every fence is closed."""
    lines, opened = [], ""
    for number, line in enumerate(text.split("\n")):
        fence = FENCE.fullmatch(line)
        if opened:
            # Only a bare fence of the same character, at least as long, closes.
            if fence and fence[1].startswith(opened) and not fence[2].strip():
                opened = ""
        elif fence:
            opened = fence[1]
        else:
            lines.append((number, line))
    return lines, not opened


def _heading(line: str) -> tuple[int, str] | None:
    if found := MARKDOWN.fullmatch(line):
        return len(found[1]), found[2].rstrip(" \t#").strip("*").strip()
    line = line.strip()
    for level, pattern in PLAIN:
        if found := pattern.fullmatch(line):
            return level, found[1].strip().rstrip(":：")
    return None


def _tables(text: str) -> Iterator[list[str]]:
    rows: list[str] = []
    for _, line in [*_outside_fences(text)[0], (0, "")]:
        if line.lstrip().startswith("|"):
            rows.append(line.strip())
        elif rows:
            yield rows
            rows = []
