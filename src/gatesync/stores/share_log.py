"""The log of a share as values: steps, packs of them, and the manifest that names the packs.

    step        a request that was saved, a confirmation, a compaction
    pack        some steps, in one object
    manifest    every pack, in order: the whole log; each manifest continues the one before it

Pure. A step is hashed into the chain of those before it: who knows a log up to a step sees by one
hash whether a manifest continues it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from gatesync.artifacts.changes import Confirmation
from gatesync.artifacts.compression import compress, decompress
from gatesync.artifacts.errors import FormatError
from gatesync.stores.log_index import LogIndex, Record

__all__ = [
    "FORMAT",
    "START",
    "STEPS_BYTES",
    "Compacted",
    "Confirmed",
    "Pack",
    "Position",
    "Saved",
    "ShareManifest",
    "Step",
    "chained",
    "decode_manifest",
    "encode_manifest",
    "encode_step",
    "foldable",
    "packed",
    "place_of",
    "read_step",
    "take",
    "unpacked",
]

FORMAT: Final = "gatesync.share/1"
START: Final = "0" * 64  # the chain before the first step
STEPS_BYTES: Final = 256 * 1024 * 1024  # of one pack, decompressed: what is more is no pack
FAN_OUT: Final = 16  # packs at least that are put into one: a long log is in some dozens
LARGEST_FOLDED: Final = 4 * 1024 * 1024  # bytes; larger packs stay as they are


class Saved(msgspec.Struct, frozen=True, tag="saved"):
    """A request that was saved."""

    record: Record


class Confirmed(msgspec.Struct, frozen=True, tag="confirmed"):
    """An operator's word that the label's history is the right one."""

    label: str
    confirmation: Confirmation


class Compacted(msgspec.Struct, frozen=True, tag="compacted"):
    """What revisions from `floor` on do not need is forgotten."""

    label: str
    floor: int


Step: TypeAlias = Saved | Confirmed | Compacted


class Pack(msgspec.Struct, frozen=True, array_like=True):
    """An object with steps: its digest, how many they are, its bytes, the chain after them."""

    digest: str
    steps: int
    size: int
    chain: str


class Position(msgspec.Struct, frozen=True):
    """How far a log is known: how many steps, and the chain after them."""

    steps: int = 0
    chain: str = START


class ShareManifest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole log at a moment.

    `revision` rises by one with each manifest. `lease` rises when the tree changes hands: `holder`
    keeps it, empty for nobody. What comes next has the name that `next_lease` says, so that there
    is one name for it, and one writer of it.
    """

    epoch: str
    lease: int
    revision: int
    next_lease: int
    holder: str
    packs: tuple[Pack, ...]
    writer: str = ""
    format: str = FORMAT

    @property
    def name(self) -> str:
        """`manifest.<lease>.<revision>`."""
        return f"manifest.{self.lease}.{self.revision}"

    @property
    def next_name(self) -> str:
        """What the one that continues this is called."""
        return f"manifest.{self.next_lease}.{self.revision + 1}"

    @property
    def position(self) -> Position:
        """Where its log ends."""
        steps = sum(each.steps for each in self.packs)
        return Position(steps, self.packs[-1].chain if self.packs else START)


_decoder: Final = msgspec.json.Decoder(ShareManifest)
_step: Final = msgspec.json.Decoder(Step)
_pack: Final = msgspec.json.Decoder(list[msgspec.Raw])


def place_of(name: str) -> tuple[int, int] | None:
    """Lease and revision of the manifest that is called so; None for any other file's name."""
    word, _, numbers = name.partition(".")
    lease, _, revision = numbers.partition(".")
    if word != "manifest" or not (_is_number(lease) and _is_number(revision)):
        return None
    return int(lease), int(revision)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19 and str(int(text)) == text


def encode_manifest(manifest: ShareManifest) -> bytes:
    """A line with the SHA-256 of what follows, then JSON."""
    body = msgspec.json.encode(manifest) + b"\n"
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def decode_manifest(content: bytes, name: str) -> ShareManifest:
    """Raises `FormatError` for what is no whole manifest of this name."""
    digest, _, body = content.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise FormatError(f"{name} is not whole: its digest does not come out")
    try:
        known: Any = msgspec.json.decode(body)
        if not isinstance(known, dict) or known.get("format") != FORMAT:
            found = known.get("format") if isinstance(known, dict) else None
            raise FormatError(f"{name} has format {found!r}; this version reads {FORMAT!r}")
        manifest = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{name} cannot be read: {error}") from None
    if manifest.name != name:
        raise FormatError(f"{name} says that it is {manifest.name}")
    return manifest


def encode_step(step: Step) -> bytes:
    """JSON. These bytes are what is hashed, and are never made again from what they mean."""
    return msgspec.json.encode(step)


def read_step(content: bytes) -> Step:
    """What `encode_step` wrote; raises `FormatError` for anything else."""
    try:
        step: Step = _step.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"a step of the log cannot be read: {error}") from None
    return step


def packed(steps: Iterable[bytes]) -> bytes:
    """A pack: a compressed JSON list."""
    return compress(b"[" + b",".join(steps) + b"]")


def unpacked(content: bytes) -> list[bytes]:
    """The steps of a pack, each as it was encoded. Raises `FormatError`."""
    try:
        return [bytes(each) for each in _pack.decode(decompress(content, STEPS_BYTES))]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"it is no list of steps: {error}") from None


def chained(chain: str, steps: Iterable[bytes]) -> str:
    """The chain after these steps."""
    for step in steps:
        chain = hashlib.sha256(chain.encode() + hashlib.sha256(step).digest()).hexdigest()
    return chain


def foldable(packs: Sequence[Pack]) -> int:
    """How many of the last packs are to become one, so that a log has few: 0 for none.

    As in a log-structured merge tree: none that outweighs the others is written again for them.
    """
    largest = total = 0
    for count, pack in enumerate(reversed(packs), 1):
        total += pack.size
        if pack.size > LARGEST_FOLDED or total > 8 * LARGEST_FOLDED:
            break
        largest = max(largest, pack.size)
        if count >= FAN_OUT and 2 * largest <= total:
            return count
    return 0


def take(index: LogIndex, steps: Iterable[Step]) -> None:
    """Append steps to an index, in order.

    Raises `FormatError` where one does not follow from those before; the index is of no use then.
    """
    try:
        for step in steps:
            match step:
                case Saved():
                    index.append(step.record)
                case Confirmed():
                    index.confirm(step.label, step.confirmation)
                case Compacted():
                    index.compact(step.label, step.floor)
    except (LookupError, ValueError) as error:
        raise FormatError(f"a step does not follow from those before it: {error!r}") from error
