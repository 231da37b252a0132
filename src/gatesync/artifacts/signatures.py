"""Ed25519 signatures over what a label's log says: change sets, heads, confirmations (promise 8).

What is signed names its label, its epoch and its place in the log, so that a signed change means
one thing only: it cannot be moved to another label, replayed into another history or put at
another place. A gateway that trusts keys asks for three signatures:

    attestation    over one change set: each instruction, and the label digest after all of them
    issue          over a head, with the time at which a publisher said so: what is old shows
    confirmation   over an operator's word that a history is the right one

An `Attestation` is what is kept of a signed change set for those who read the label as a list: of
each change it has a hash, its leaf, in 32 bytes. An entry of a list is proved by the leaf that it
has in the attestation of its revision, and what the list lacks by that of the head.

What is signed is binary: a name of what it is, then each field, texts and lists with their length
in 4 bytes before them, numbers in 8, all big-endian. Keys and signatures are those of RFC 8032.
"""

import base64
import binascii
import hashlib
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from gatesync.artifacts.digests import Count, LabelDigest

if TYPE_CHECKING:
    from gatesync.artifacts.changes import Change, ChangeSet, Confirmation, Entry, Head

__all__ = [
    "Attestation",
    "Issue",
    "Signature",
    "Signer",
    "Trust",
    "TrustedKey",
    "UntrustedError",
    "attestation_of",
    "leaf_of",
    "publish_leaf",
]

LEAF_BYTES: Final = 32
KEY_BYTES: Final = 32  # of a public key, and of a private one
_PREFIX: Final = "gspk_"


class UntrustedError(ValueError):
    """Something is not signed as it should be; says what, and what is wrong about it.

    Attributes:
        why: the same in a word, for metrics: `unsigned`, `key`, `altered`; `old`, where whoever
            verifies asks for a recent signature, too.
    """

    def __init__(self, message: str, why: str = "unsigned") -> None:
        self.why = why
        super().__init__(message)


class Signature(msgspec.Struct, frozen=True, gc=False):
    """64 bytes of Ed25519, and by which key: see `TrustedKey.key_id`."""

    key_id: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]
    value: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class Issue(msgspec.Struct, frozen=True, gc=False):
    """A publisher's signature over a head. `issued_at` is in milliseconds since 1970."""

    issued_at: Count
    signature: Signature


class Attestation(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a signed change set.

    `digest` is the label's after it; `leaves` are those of its changes, 32 bytes each, in order.
    """

    revision: Count
    previous: Count
    digest: LabelDigest
    leaves: bytes
    signature: Signature

    def split(self) -> frozenset[bytes]:
        """All leaves. The signature is to be verified before they prove anything."""
        leaves = self.leaves
        return frozenset(leaves[at : at + LEAF_BYTES] for at in range(0, len(leaves), LEAF_BYTES))


class TrustedKey(msgspec.Struct, frozen=True):
    """A public key, and for which labels it may sign: all if none is named."""

    public: Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
    labels: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, labels: Collection[str] = ()) -> "TrustedKey":
        """Read what `text` writes. Raises `ValueError` for anything else."""
        if not text.startswith(_PREFIX):
            raise ValueError(f"a public key begins with {_PREFIX}; `gatesync keys list` shows it")
        try:
            public = base64.b64decode(text[len(_PREFIX) :] + "=", altchars=b"-_", validate=True)
        except binascii.Error:
            public = b""
        if len(public) != KEY_BYTES:
            raise ValueError("this public key is not whole; copy it from `gatesync keys list`")
        return cls(public, tuple(labels))

    @property
    def text(self) -> str:
        """As people copy it: `gspk_` and 43 characters of base64url."""
        return _PREFIX + base64.urlsafe_b64encode(self.public).decode().rstrip("=")

    @property
    def key_id(self) -> str:
        """The first 16 hex digits of the key's SHA-256."""
        return hashlib.sha256(self.public).hexdigest()[:16]


class Signer:
    """Signs with one private key. Shown by no `repr`.

    Args:
        private: the key's 32 bytes.
    """

    def __init__(self, private: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._private = Ed25519PrivateKey.from_private_bytes(private)
        self.key = TrustedKey(self._private.public_key().public_bytes_raw())
        self.key_id = self.key.key_id

    def change_set(self, change_set: "ChangeSet") -> "ChangeSet":
        """The change set with a signature."""
        unsigned = attestation_of(change_set, self._nothing())
        signature = self._sign(_changes_message(unsigned, change_set.label, change_set.epoch))
        return msgspec.structs.replace(change_set, signature=signature)

    def head(self, head: "Head", issued_at: int) -> "Head":
        """The head, signed as issued at that time, in milliseconds since 1970."""
        unsigned = Issue(issued_at, self._nothing())
        signature = self._sign(_head_message(head, unsigned))
        return msgspec.structs.replace(head, issue=Issue(issued_at, signature))

    def confirmation(self, label: str, confirmation: "Confirmation") -> "Confirmation":
        """The confirmation with a signature."""
        signature = self._sign(_confirmation_message(label, confirmation, self.key_id))
        return msgspec.structs.replace(confirmation, signature=signature)

    def _nothing(self) -> Signature:
        return Signature(self.key_id, bytes(64))

    def _sign(self, message: bytes) -> Signature:
        return Signature(self.key_id, self._private.sign(message))


class Trust:
    """The keys that a gateway trusts. Each method raises `UntrustedError`, or is content.

    Args:
        keys: at least one; one key may stand there several times, for several labels.
    """

    def __init__(self, keys: Iterable[TrustedKey]) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        self._keys: dict[str, tuple[Ed25519PublicKey, frozenset[str] | None]] = {}
        for key in keys:
            public = Ed25519PublicKey.from_public_bytes(key.public)
            _, before = self._keys.get(key.key_id, (public, frozenset[str]()))
            labels = None if before is None or not key.labels else before.union(key.labels)
            self._keys[key.key_id] = (public, labels)
        if not self._keys:
            raise ValueError("whoever asks for signatures has to trust a key")

    @property
    def key_ids(self) -> frozenset[str]:
        """Which keys these are."""
        return frozenset(self._keys)

    def verify_change_set(self, change_set: "ChangeSet") -> None:
        """The change set is signed, every byte of what a gateway acts on."""
        what = f"revision {change_set.revision} of label {change_set.label!r}"
        signature = _present(change_set.signature, what)
        message = _changes_message(
            attestation_of(change_set, signature), change_set.label, change_set.epoch
        )
        self._verify(what, change_set.label, signature, message)

    def verify_attestation(self, label: str, epoch: str, attestation: Attestation) -> None:
        """The attestation is that of this label and epoch, and signed."""
        what = f"revision {attestation.revision} of label {label!r}"
        message = _changes_message(attestation, label, epoch)
        self._verify(what, label, attestation.signature, message)

    def verify_head(self, head: "Head") -> int:
        """The head is signed, and its confirmation if it has one; answers with its time of issue.

        Milliseconds since 1970. Whether that is long ago is for the caller to say.
        """
        issued_at = self.verify_issue(head)
        if head.confirmation is not None:
            self.verify_confirmation(head.label, head.confirmation)
        return issued_at

    def verify_issue(self, head: "Head") -> int:
        """As `verify_head`, and the confirmation is not looked at, only which one it is."""
        what = f"the head of label {head.label!r}"
        if head.issue is None:
            raise UntrustedError(f"{what} is not signed")
        self._verify(what, head.label, head.issue.signature, _head_message(head, head.issue))
        return head.issue.issued_at

    def verify_confirmation(self, label: str, confirmation: "Confirmation") -> None:
        """An operator of a publisher with a trusted key said so."""
        what = f"the confirmation of label {label!r}"
        signature = _present(confirmation.signature, what)
        message = _confirmation_message(label, confirmation, signature.key_id)
        self._verify(what, label, signature, message)

    def _verify(self, what: str, label: str, signature: Signature, message: bytes) -> None:
        from cryptography.exceptions import InvalidSignature

        key_id = signature.key_id
        if key_id not in self._keys:
            raise UntrustedError(
                f"{what} is signed by key {key_id}, which is not trusted here", "key"
            )
        public, labels = self._keys[key_id]
        if labels is not None and label not in labels:
            raise UntrustedError(
                f"{what} is signed by key {key_id}, which is not trusted for this label", "key"
            )
        try:
            public.verify(signature.value, message)
        except InvalidSignature:
            raise UntrustedError(
                f"{what} is not what key {key_id} signed: it was altered, or belongs elsewhere",
                "altered",
            ) from None


def attestation_of(change_set: "ChangeSet", signature: Signature | None = None) -> Attestation:
    """What is kept of a signed change set. Raises `UntrustedError` where it is not signed."""
    what = f"revision {change_set.revision} of label {change_set.label!r}"
    return Attestation(
        revision=change_set.revision,
        previous=change_set.previous,
        digest=change_set.digest,
        leaves=b"".join(map(leaf_of, change_set.changes)),
        signature=signature or _present(change_set.signature, what),
    )


def leaf_of(change: "Change") -> bytes:
    """The hash of one instruction: of a removal, what was removed."""
    if change.instruction == "Publish":
        return publish_leaf(change.entry)
    return _leaf("Remove", change.entry.api_id, change.entry.digest)


def publish_leaf(entry: "Entry") -> bytes:
    """The hash of the instruction that brought this entry into its label."""
    return _leaf(
        "Publish",
        entry.api_id,
        entry.digest,
        entry.tenant,
        entry.kind,
        entry.name,
        entry.version,
        entry.context,
        str(entry.size),
    )


def _leaf(*fields: str) -> bytes:
    return hashlib.sha256(b"".join(map(_framed, fields))).digest()


def _changes_message(attestation: Attestation, label: str, epoch: str) -> bytes:
    return b"".join((
        _framed("gatesync.change/1"),
        _framed(epoch),
        _framed(label),
        _number(attestation.revision),
        _number(attestation.previous),
        bytes.fromhex(attestation.digest.total),
        _number(attestation.digest.count),
        _framed(attestation.signature.key_id),
        len(attestation.leaves).to_bytes(4, "big"),
        attestation.leaves,
    ))  # fmt: skip


def _head_message(head: "Head", issue: Issue) -> bytes:
    confirmation = head.confirmation
    return b"".join((
        _framed("gatesync.head/1"),
        _framed(head.epoch),
        _framed(head.label),
        _number(head.revision),
        bytes.fromhex(head.digest.total),
        _number(head.digest.count),
        _framed(confirmation.id if confirmation else ""),
        _number(issue.issued_at),
        _framed(issue.signature.key_id),
    ))  # fmt: skip


def _confirmation_message(label: str, confirmation: "Confirmation", key_id: str) -> bytes:
    return b"".join((
        _framed("gatesync.confirmation/1"),
        _framed(confirmation.epoch),
        _framed(label),
        _number(confirmation.revision),
        _framed(confirmation.id),
        _framed(key_id),
    ))  # fmt: skip


def _present(signature: Signature | None, what: str) -> Signature:
    if signature is None:
        raise UntrustedError(f"{what} is not signed")
    return signature


def _framed(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "big") + data


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")
