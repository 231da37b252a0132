"""The one chain of manifests: what is new in it, and how the next one is made.

    look(known)            the newest manifest, and the steps that are not known yet
    extend(known, steps)   objects, then the manifest that continues the known one: or somebody
                           else has made that first, and nothing happened

Each manifest names the next one, and a name is made once: of all who continue a manifest one does.
So a writer that was paused for however long can only lose, and needs nobody's leave to write
(docs/decisions/0036). Blocks; one caller at a time.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import structlog

from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.errors import FormatError
from gatesync.stores.share_files import ShareFiles
from gatesync.stores.share_log import (
    STEPS_BYTES,
    Pack,
    Position,
    ShareManifest,
    Step,
    chained,
    decode_manifest,
    encode_manifest,
    encode_step,
    foldable,
    packed,
    place_of,
    read_step,
    unpacked,
)
from gatesync.stores.store import StoreError

__all__ = ["Known", "News", "ShareChain", "first_manifest"]

TRIES: Final = 5  # to read what others clean up meanwhile

_log = structlog.get_logger("gatesync.stores")


class Known(msgspec.Struct, frozen=True):
    """How far somebody has read: the manifest, and the position that it ends at."""

    manifest: ShareManifest
    position: Position


class News(msgspec.Struct, frozen=True):
    """What is new. `whole`: the steps are all of a log, which does not continue the known one."""

    known: Known
    steps: tuple[Step, ...] = ()
    whole: bool = False


class _GoneError(Exception):
    """An object that a manifest names is not there: cleaned up by now, or lost."""


class ShareChain:
    """The chain in a share's files."""

    def __init__(self, files: ShareFiles) -> None:
        self._files = files
        self._told: set[str] = set()

    def look(self, known: Known | None) -> News | None:
        """What is new; None: nothing is.

        Raises:
            StoreError: the share cannot be read.
            FormatError: a step is none that this version knows.
        """
        gone = ""
        for _ in range(TRIES):
            epoch = self._files.epoch()
            if known is not None and known.manifest.epoch != epoch:
                known = None
            newest = self._newest(epoch, known)
            if known is not None and newest == known.manifest:
                return None
            try:
                return self._news(newest, known)
            except _GoneError as error:
                gone = str(error)
        raise StoreError(f"{self._files} is damaged: {gone}")

    def extend(
        self,
        known: Known,
        steps: Sequence[Step],
        contents: Mapping[str, bytes],
        *,
        writer: str = "",
        holder: str | None = None,
    ) -> Known | None:
        """Write what continues this; None: somebody else has, and nothing was saved.

        Args:
            known: what is known, and is continued.
            steps: what is new; may be none.
            contents: what these name, by digest.
            writer: who says so.
            holder: who keeps the tree from now on, under a new lease; None for no change.

        Raises:
            StoreError: nothing was saved, or `unsure`.
        """
        manifest, packs = known.manifest, known.manifest.packs
        objects = dict(contents)
        if steps:
            try:
                packs, content = self._packed(known, [encode_step(each) for each in steps])
            except _GoneError:
                return None  # somebody has folded them, and so gone on
            objects[packs[-1].digest] = content
        self._files.write_objects(objects)
        lease = manifest.next_lease
        new = ShareManifest(
            epoch=manifest.epoch,
            lease=lease,
            revision=manifest.revision + 1,
            next_lease=lease if holder is None else lease + 1,
            holder=manifest.holder if holder is None else holder,
            packs=packs,
            writer=writer,
        )
        if not self._files.link(new.name, encode_manifest(new), manifest.name):
            found = self._manifest(new.name, manifest.epoch)
            if found is None and self._files.is_taken(new.name):
                raise StoreError(
                    f"{self._files} holds a damaged {new.name}, after which nothing can be "
                    "saved; move that file away"
                )
            return None
        return Known(new, new.position)

    def _packed(self, known: Known, steps: list[bytes]) -> tuple[tuple[Pack, ...], bytes]:
        """The packs with these steps after them, and the content of the last one."""
        packs, count = known.manifest.packs, len(steps)
        if sum(map(len, steps)) > STEPS_BYTES:
            raise StoreError(
                f"{self._files}: what is to be saved at once has more than {STEPS_BYTES} bytes of "
                "names alone; publish fewer artifacts at a time"
            )
        chain = chained(known.position.chain, steps)
        content = packed(steps)
        last = Pack(digest_of(content), count, len(content), chain)
        folded = foldable((*packs, last)) - 1
        if folded < 1:
            return (*packs, last), content
        kept, older = packs[:-folded], packs[-folded:]
        before = kept[-1].chain if kept else Position().chain
        every: list[bytes] = []
        for pack in older:
            every += self._unpacked(pack, before)
            before = pack.chain
        if sum(map(len, every)) + sum(map(len, steps)) > STEPS_BYTES:
            return (*packs, last), content
        content = packed([*every, *steps])
        last = Pack(digest_of(content), len(every) + count, len(content), chain)
        return (*kept, last), content

    # Reading ----------------------------------------------------------------------------------

    def _newest(self, epoch: str, known: Known | None) -> ShareManifest:
        """By the names that come next. Only who has no place to begin lists the folder.

        Manifests are cleaned up in ascending order: where one is there, and the next is not, the
        next was never made.
        """
        best = known.manifest if known is not None else None
        if best is not None and self._manifest(best.name, epoch) != best:
            listed = self._listed(epoch)
            if listed is not None and listed.revision < best.revision:
                _log.warning("a share went back: another copy of it?", share=str(self._files.path))
            best = listed
        elif best is None:
            best = self._listed(epoch)
        if best is None:
            raise StoreError(f"{self._files} is damaged: it holds no manifest that can be read")
        while (then := self._manifest(best.next_name, epoch)) is not None:
            best = then
        return best

    def _listed(self, epoch: str) -> ShareManifest | None:
        """The newest in the list, which a host may have cached."""
        places = sorted(filter(None, map(place_of, self._files.names())), reverse=True)
        found = (self._manifest(f"manifest.{a}.{b}", epoch) for a, b in places)
        return next((each for each in found if each is not None), None)

    def _manifest(self, name: str, epoch: str) -> ShareManifest | None:
        """None for what is not there, half-written or foreign: it does not exist for anybody."""
        content = self._files.read(name)
        if content is None:
            return None
        try:
            found = decode_manifest(content, name)
        except FormatError as error:
            self._tell(str(error))
            return None
        if found.epoch != epoch:
            self._tell(f"{name} is of another epoch")
            return None
        return found

    def _news(self, newest: ShareManifest, known: Known | None) -> News:
        position = known.position if known is not None else Position()
        steps = self._steps_after(newest.packs, position)
        if steps is None:  # it does not continue what is known
            steps = self._steps_after(newest.packs, Position()) or []
            position = Position()
        found = tuple(read_step(each) for each in steps)
        whole = known is None or position != known.position
        return News(Known(newest, newest.position), found, whole)

    def _steps_after(self, packs: Sequence[Pack], position: Position) -> list[bytes] | None:
        """The steps after a position; None: this is no log that it is in."""
        found: list[bytes] = []
        start, chain = 0, Position().chain
        for pack in packs:
            end = start + pack.steps
            if end <= position.steps:
                if end == position.steps and pack.chain != position.chain:
                    return None
            else:
                steps = self._unpacked(pack, chain)
                before = max(0, position.steps - start)
                if before and chained(chain, steps[:before]) != position.chain:
                    return None
                found += steps[before:]
            start, chain = end, pack.chain
        return found if start >= position.steps else None

    def _unpacked(self, pack: Pack, chain: str) -> list[bytes]:
        content = self._files.object(pack.digest)
        if content is None:
            raise _GoneError(f"objects/{pack.digest} is missing or is not what it was")
        try:
            steps = unpacked(content)
        except FormatError as error:
            raise StoreError(f"{self._files}: objects/{pack.digest}: {error}") from None
        if len(steps) != pack.steps or chained(chain, steps) != pack.chain:
            raise StoreError(f"{self._files} is damaged: objects/{pack.digest} is not as listed")
        return steps

    def _tell(self, problem: str) -> None:
        """Once: it is looked at again and again."""
        if problem not in self._told:
            self._told.add(problem)
            _log.warning("not taken for a manifest", share=str(self._files.path), reason=problem)


def first_manifest(epoch: str) -> tuple[str, bytes]:
    """The name and content of an empty share's manifest."""
    first = ShareManifest(epoch=epoch, lease=1, revision=0, next_lease=1, holder="", packs=())
    return first.name, encode_manifest(first)
