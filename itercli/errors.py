"""The base of errors whose message is complete: what is wrong, where, and what to do."""

from __future__ import annotations


class IterError(Exception):
    """Shown to users as it is, without a traceback; everything else is a bug and gets one."""
