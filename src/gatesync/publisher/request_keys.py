"""Idempotency keys for who brings none."""

import secrets
import time
import uuid

__all__ = ["new_key"]


def new_key() -> str:
    """A UUID of version 7 (RFC 9562): the milliseconds since 1970, then 74 random bits.

    Keys that rise with time are written side by side by a database that keeps them in order;
    random ones go to another page each.
    """
    milliseconds = time.time_ns() // 1_000_000
    chance = secrets.randbits(74)
    high, low = chance >> 62, chance & ((1 << 62) - 1)
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low))
