"""Curves of a metric by iteration in the terminal (`iter show --plot`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from itercli.report.numbers import number
from itercli.report.text import clean

HEIGHT = 14  # lines
NARROWEST = 30  # characters
TICKS = 5
# Frames, marks and braille dots, for outputs that can't show them.
ASCII = str.maketrans(
    {"─": "-", "│": "|", "●": "*", "\u2800": " "}
    | dict.fromkeys("┌┐└┘├┤┬┴┼", "+")
    | dict.fromkeys(map(chr, range(0x2801, 0x2900)), ".")
)


def plot(
    title: str, metric: Mapping[int, Any], width: int, *, colour: bool = False, encoding: str = "utf-8"
) -> str:
    """A curve with its intervals as bars, in lines of text without a last line break.

    The line is broken where an iteration has no value.

    Args:
        metric: Iteration -> number, or mapping with value and perhaps low and high; 0 is the start.
        width: Of the terminal, in characters.
        encoding: Of the output; without box-drawing characters in it, plain ASCII is used.

    Raises:
        LookupError: There is no value.
    """
    import plotext

    points = {i: found for i in sorted(metric) if (found := _point(metric[i])) is not None}
    if not points:
        raise LookupError(f"{clean(title)} has no value to plot")
    plotext.clear_figure()
    plotext.limit_size(False, False)  # the width is given; a pipe has no size
    plotext.plot_size(max(width, NARROWEST), HEIGHT)
    plotext.theme("clear")
    plotext.title(clean(title).replace("\n", " "))
    for i, (low, _, high) in points.items():
        if low < high:
            plotext.plot([i, i], [low, high], marker="│", color=_colour("gray", colour))
    order = sorted(metric)
    for one, other in pairwise(order):
        if one in points and other in points:
            values = [points[one][1], points[other][1]]
            plotext.plot([one, other], values, marker="braille", color=_colour("cyan", colour))
    plotext.scatter(list(points), [p[1] for p in points.values()], marker="●", color=_colour("cyan", colour))
    first, last = order[0], order[-1]
    plotext.xlim(first - 0.25, last + 0.25)
    shown = _spread(order, max(width, NARROWEST) // 8)
    plotext.xticks(shown, ["start" if i == 0 else str(i) for i in shown])
    low, high = min(p[0] for p in points.values()), max(p[2] for p in points.values())
    margin = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    plotext.ylim(low - margin, high + margin)
    ticks = [low + (high - low) * n / (TICKS - 1) for n in range(TICKS)] if high > low else [low]
    plotext.yticks(ticks, [number(tick, like=max(abs(low), abs(high))) for tick in ticks])
    drawn = plotext.build()
    plotext.clear_figure()
    drawn = drawn if colour else plotext.uncolorize(drawn)
    return _encodable("\n".join(line.rstrip() for line in drawn.rstrip().split("\n")), encoding)


def _point(metric: Any) -> tuple[float, float, float] | None:
    """low, value, high; the value three times without an interval, None without a finite value."""
    found = metric if isinstance(metric, dict) else {"value": metric}
    value = found.get("value")
    if value is None or not math.isfinite(value):
        return None
    ends = [found.get("low"), found.get("high")]
    low, high = (value if end is None or not math.isfinite(end) else end for end in ends)
    return min(low, value), value, max(high, value)


def _spread(iterations: Iterable[int], most: int) -> list[int]:
    """At most so many of the iterations, evenly, the first and the last among them."""
    known = list(iterations)
    step = max(1, math.ceil((len(known) - 1) / max(most - 1, 1)))
    return sorted({*known[::step][: most - 1], known[-1]}) if len(known) > most else known


def _colour(name: str, wanted: bool) -> str | None:
    return name if wanted else None


def _encodable(text: str, encoding: str) -> str:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return text.translate(ASCII).encode("ascii", "replace").decode()
    return text
