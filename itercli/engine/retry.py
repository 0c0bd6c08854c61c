"""When to ask a server again: what HTTP clients of the package share."""

from __future__ import annotations

import email.utils
import random
import time

# Not for results: spreads the tries of many requests over time.
_JITTER = random.Random()
_LONGEST = 600.0  # seconds that a server's own wish is followed


def pause(attempt: int, asked: float | None, first: float, most: float) -> float:
    """Seconds before the next try: what the server asks for, else doubling with jitter.

    Args:
        attempt: Tries that failed before this one.
        asked: See `retry_after`.
        first: Longest first pause in seconds.
        most: Longest pause in seconds.
    """
    own = min(most, first * 2**attempt) * _JITTER.uniform(0.5, 1.0)
    return own if asked is None else max(own, min(asked, _LONGEST))


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for (a number or an HTTP date), or None."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
