"""Digests: of one artifact, and of everything that a label holds."""

import hashlib
from collections.abc import Collection
from typing import Annotated, Final

import msgspec

__all__ = [
    "EMPTY_LABEL",
    "Count",
    "Digest",
    "LabelDigest",
    "digest_of",
    "label_digest_of",
    "set_digest",
]

# What these functions rely on is checked where a value is decoded, wherever it came from.
Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""A SHA-256, 64 hex digits."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A number that fits a signed 64-bit column."""

_MODULUS: Final = 1 << 256


def digest_of(canonical: bytes) -> str:
    """SHA-256 of an artifact's canonical form, 64 hex digits."""
    return hashlib.sha256(canonical).hexdigest()


class LabelDigest(msgspec.Struct, frozen=True):
    """An order-free hash over a set of (api_id, digest): a sum modulo 2^256, and a count.

    Adding or removing one member costs the same however many there are. It finds drift, it
    does not prove authorship. A sum, never XOR: for XOR two sets with equal hashes are
    found in milliseconds.
    """

    total: Digest = "0" * 64
    count: Count = 0

    def add(self, api_id: str, digest: str) -> "LabelDigest":
        """The digest of the set with this member, which was not in it."""
        return self.replace(api_id, None, digest)

    def remove(self, api_id: str, digest: str) -> "LabelDigest":
        """The digest of the set without this member, which was in it."""
        return self.replace(api_id, digest, None)

    def replace(self, api_id: str, old: str | None, new: str | None) -> "LabelDigest":
        """The digest after `api_id` went from `old` to `new`; None stands for absent."""
        total, count = int(self.total, 16), self.count
        if old is not None:
            total, count = total - _weight(api_id, old), count - 1
        if new is not None:
            total, count = total + _weight(api_id, new), count + 1
        return LabelDigest(f"{total % _MODULUS:064x}", count)


EMPTY_LABEL: Final = LabelDigest()


def label_digest_of(members: Collection[tuple[str, str]]) -> LabelDigest:
    """The digest of a set of (api_id, digest): what adding one after the other comes to."""
    total = sum(_weight(api_id, digest) for api_id, digest in members) % _MODULUS
    return LabelDigest(f"{total:064x}", len(members))


def set_digest(members: dict[str, str]) -> str:
    """SHA-256 over the sorted (api_id, digest) pairs: slower than the sum, and forge-proof."""
    hasher = hashlib.sha256()
    for api_id in sorted(members):
        hasher.update(_framed(api_id, members[api_id]))
    return hasher.hexdigest()


def _weight(api_id: str, digest: str) -> int:
    return int.from_bytes(hashlib.sha256(_framed(api_id, digest)).digest(), "big")


def _framed(api_id: str, digest: str) -> bytes:
    name = api_id.encode()
    return len(name).to_bytes(4, "big") + name + bytes.fromhex(digest)
