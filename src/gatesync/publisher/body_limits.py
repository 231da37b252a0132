"""How large a request of whom may be: who may not publish has little to send.

What is decoded before anybody asks whether this token may do that is no larger than this.
"""

from typing import Final

from gatesync.publisher.tokens import Principal

__all__ = ["body_limit"]

ASKING_BYTES: Final = 64 * 1024  # of who only reads
REPORT_BYTES: Final = 16 * 1024 * 1024  # what is wrong with a node, some hundred things a label
REPORTS: Final = frozenset({"/v1/reports", "/v1/workers"})
PUBLISH_BYTES: Final = 2**63  # the guard has a limit of its own, which is configured


def body_limit(who: Principal, path: str) -> int:
    """Bytes of a body that this credential may send to this path."""
    if who.may_publish():
        return PUBLISH_BYTES
    return REPORT_BYTES if path in REPORTS else ASKING_BYTES
