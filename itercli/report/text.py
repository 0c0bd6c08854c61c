"""Text from models and tools on a terminal: cleaned, cut, never interpreted."""

from __future__ import annotations

import functools
import re
import unicodedata

# CSI, OSC/DCS and the like (up to their terminator), then two-character escapes.
_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
# Nothing of these is seen, or it changes how the rest is seen: controls, format characters (bidirectional
# marks, joiners, tags), surrogates, private use.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co"}
# Invisible although their category says letter, mark or symbol, or nothing yet. Two variation selectors stay:
# they choose between text and emoji.
_FILLERS = {*map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0))}
_HIDDEN_RANGES = ((0x180B, 0x180F), (0xFE00, 0xFE0D), (0xFFF0, 0xFFF8), (0xE0000, 0xE0FFF))
_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")


def clean(text: str) -> str:
    """Untrusted text without terminal escapes and without characters that hide or reorder something.

    Line breaks and tabs stay; whatever else breaks a line (a carriage return, U+2028) becomes a
    line break, so that nothing can be overwritten on screen. Joiners go too: what they join
    (some emoji, letters of Persian and Indic scripts) is shown apart, which misleads nobody.
    """
    text = _ANSI.sub("", _BREAKS.sub("\n", text))
    if text.isascii() and text.isprintable():
        return text
    return "".join(c for c in text if c in "\n\t" or not _hides(c))


@functools.cache
def _hides(c: str) -> bool:
    if c.isascii():
        return not c.isprintable()
    if unicodedata.category(c) in _INVISIBLE or c in _FILLERS:
        return True
    return any(low <= ord(c) <= high for low, high in _HIDDEN_RANGES) or ord(c) & 0xFFFE == 0xFFFE


def first_line(text: str | None) -> str:
    """The first line that says something, cleaned."""
    return next((line.strip() for line in clean(text or "").splitlines() if line.strip()), "")


def clip(text: str, lines: int | None, width: int = 200) -> tuple[str, int]:
    """The beginning of a text.

    Args:
        lines: How many lines to keep; None keeps everything.
        width: Characters of an average line: bounds texts without line breaks.

    Returns:
        What is shown, and how many characters are left out.
    """
    if lines is None:
        return text, 0
    kept = "\n".join(text.split("\n", lines)[:lines])[: lines * width]
    return kept, len(text) - len(kept)


def age(seconds: float) -> str:
    """How long ago, in one unit: ``12s``, ``3m``, ``5h``, ``2d``."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(int(seconds), 0)}s"


def spent(seconds: float) -> str:
    """A duration; below ten seconds with a tenth, since much of a small run is that short."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    s = round(seconds)
    if s >= 3600:
        return f"{s // 3600}h{s % 3600 // 60:02d}m"
    return f"{s // 60}m{s % 60:02d}s" if s >= 60 else f"{s}s"


def amount(size: float) -> str:
    """A size in bytes, with a unit (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.5 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
