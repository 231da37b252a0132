"""Heads that publishers signed, for gateways that read a share: nobody signs in between.

Each publisher has a file of its own in `gatesync/heads`, written anew at each heartbeat.
"""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from gatesync.artifacts.changes import Head
from gatesync.stores.share_files import ShareFiles

__all__ = ["read_issued", "write_issued"]


class _Issued(msgspec.Struct, frozen=True):
    issued_at: int  # milliseconds since 1970
    heads: tuple[Head, ...]


def write_issued(files: ShareFiles, publisher: str, heads: Sequence[Head], issued_at: int) -> None:
    """Keep these as the publisher's last. Raises `StoreError`."""
    name = hashlib.sha256(publisher.encode()).hexdigest()[:32]
    content = msgspec.json.encode(_Issued(issued_at, tuple(heads)))
    files.write(f"heads/{name}", content, durable=False)  # the next one comes soon


def read_issued(files: ShareFiles, heads: Mapping[str, Head]) -> dict[str, Head]:
    """Each head with the newest signature that was given to just this one, where there is any."""
    found = dict(heads)
    newest: dict[str, int] = {}
    for content in files.heads():
        try:
            issued = msgspec.json.decode(content, type=_Issued)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue  # of a later version, or somebody's else
        for head in issued.heads:
            asked = heads.get(head.label)
            is_this = asked == msgspec.structs.replace(head, issue=None)
            if is_this and issued.issued_at > newest.get(head.label, -1):
                newest[head.label] = issued.issued_at
                found[head.label] = head
    return found
