"""Text from models and tools on a terminal: cleaned, cut, never interpreted."""

from __future__ import annotations

import re
import unicodedata

# CSI, OSC/DCS and the like (up to their terminator), then two-character escapes.
_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_INVISIBLE = {"Cc", "Cs"}
# Characters that reorder or hide what is shown: bidirectional controls, zero-width space and joiners.
_DECEPTIVE = {
    *map(chr, range(0x200B, 0x2010)),
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2060, 0x206A)),
    "\ufeff",
}


def clean(text: str) -> str:
    """Untrusted text without terminal escapes, control characters and reordering marks.

    Line breaks and tabs stay; a carriage return counts as a line break, so that nothing
    can be overwritten on screen.
    """
    text = _ANSI.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c for c in text if c in "\n\t" or not (c in _DECEPTIVE or unicodedata.category(c) in _INVISIBLE)
    )


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
