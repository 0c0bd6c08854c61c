"""Canonical hashes: stage keys and seeds.

Everything random draws from a seed that is a hash of what it is for, so order, batch
composition and restarts do not change what is drawn.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: Any, length: int = 20) -> str:
    """Hex digest of a JSON value, `length` characters (4 bits each)."""
    return hashlib.sha256(canonical(value)).hexdigest()[:length]


def seed_for(*parts: str | int) -> int:
    """A 63-bit seed from what it is for, for example (run seed, stage, iteration, prompt id, index)."""
    raw = hashlib.blake2b(canonical(list(parts)), digest_size=8).digest()
    return int.from_bytes(raw, "big") >> 1
