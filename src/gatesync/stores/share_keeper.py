"""One of a share's publishers keeps its tree, and tidies up: the holder of its lease.

    nobody holds it, or its holder gives no sign of life → take it, prove each file of the tree
    each check → bring the tree to what the log says; each verify interval → look at every file

Who holds the lease decides nothing about the log: publishers write that side by side. A holder
that was paused and wakes late finds another one's name in the log, and lets go; what it may have
put into the tree before it looked is put right by the other at its next look.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, ParamSpec, TypeVar

import msgspec
import structlog

from gatesync.stores.batching import in_batches
from gatesync.stores.share_lane import ShareLane
from gatesync.stores.share_log import ShareManifest
from gatesync.stores.share_source import ShareSource
from gatesync.stores.share_store import ShareStore
from gatesync.stores.share_sweep import ShareSweep
from gatesync.stores.share_tree import Chosen, ShareTree, TreeNote, winners
from gatesync.stores.store import StoreError

__all__ = ["ShareKeeper"]

BEAT_SECONDS: Final = 2.0
SILENT_SECONDS: Final = 15.0  # several beats, and a failover of the share's server
SWEEP_SECONDS: Final = 60.0
RELEASE_SECONDS: Final = 5.0  # a service that is stopped has not for ever
BATCH_ITEMS: Final = 64  # artifacts that are written in one go: seconds on a slow network
BATCH_BYTES: Final = 32 * 1024 * 1024
_WHOLE: Final = 2**31

_P = ParamSpec("_P")
_T = TypeVar("_T")

_log = structlog.get_logger("gatesync.publisher")


class ShareKeeper:
    """Keeps the tree as long as this publisher holds the lease, and takes it when it may.

    Args:
        store: the share's.
        source: what it was opened with; its `state` is needed for a tree.
        clock: seconds that never go back.
        silent: how long another holder may give no sign of life, in seconds.
        step: called before each change of the tree with what it does; for tests.

    Attributes:
        holds: whether this publisher is the one.
        refused: what the tree does not have, by api_id, and why.
    """

    def __init__(
        self,
        store: ShareStore,
        source: ShareSource,
        *,
        clock: Callable[[], float] = time.monotonic,
        silent: float = SILENT_SECONDS,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.holds = False
        self.refused: dict[str, str] = {}
        self._store = store
        self._source = source
        self._clock = clock
        self._silent = silent
        self._step = step
        self._me = f"{source.holder or 'publisher'} {store.state.id}"
        self._lane = ShareLane(str(source), source.deadline_seconds)
        self._sweep = ShareSweep(store.files, clock)
        self._tree: ShareTree | None = None
        self._in_tree: dict[str, str] = {}
        self._brought: ShareManifest | None = None
        self._noted: TreeNote | None = None
        self._sign: tuple[int, bytes | None] = (-1, None)
        self._sign_at = self._verified_at = self._swept_at = clock()
        self._beats = 0
        self._trouble = ""

    async def run(self) -> None:
        """Until cancelled; then others may hold it at once."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat(), name="share holder")
            tasks.create_task(self._keep(), name="share tree")

    async def check(self) -> None:
        """Take the lease if it is free, and do what its holder does. Raises `StoreError`."""
        await self._store.catch_up()
        manifest = self._store.known.manifest
        self.holds = manifest.holder == self._me
        if not self.holds:
            await self._let_go()
            if not await self._may_take(manifest) or not await self._store.hold(self._me):
                return
            self.holds = True
            lease = self._store.known.manifest.next_lease
            _log.info("keeps the share", share=str(self._source.path), lease=lease)
        if self._has_tree:
            await self._keep_tree()
        if self._clock() - self._swept_at >= SWEEP_SECONDS:
            self._swept_at = self._clock()
            await self._store.run(self._sweep.sweep, self._store.known.manifest)

    def said(self) -> str:
        """How the tree stands, in a few words."""
        if self._trouble:
            return self._trouble
        if not self.holds:
            holder, _, _ = self._store.known.manifest.holder.rpartition(" ")
            return f"kept by {holder}" if holder else "kept by nobody yet"
        if not self.refused:
            return f"good, {len(self._in_tree)} artifacts"
        reason = next(iter(self.refused.values()))
        return f"{len(self.refused)} of {len(self._in_tree)} artifacts are not there: {reason}"

    async def release(self) -> None:
        """Let others hold the lease, once the tree is at rest. Raises `StoreError`."""
        await self._let_go()
        if self.holds:
            self.holds = False
            await self._store.catch_up()
            if self._store.known.manifest.holder == self._me:
                await self._store.hold("")

    async def _keep(self) -> None:
        try:
            while True:
                try:
                    await self.check()
                    self._tell("")
                except StoreError as error:
                    self._tell(str(error))
                if self._has_tree:
                    self._store.tree = self.said()
                await asyncio.sleep(self._source.check_seconds)
        finally:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS):
                    await self.release()

    async def _beat(self) -> None:
        """What others see of this one on their own clocks."""
        while True:
            with suppress(StoreError):  # whoever checks tells of it
                if self.holds and self._store.known.manifest.holder == self._me:
                    self._beats += 1
                    name = f"holder.{self._store.known.manifest.next_lease}"
                    content = f"{self._me}\n{self._beats}\n".encode()
                    await self._store.run(self._store.files.write, name, content, durable=False)
            await asyncio.sleep(BEAT_SECONDS)

    async def _may_take(self, manifest: ShareManifest) -> bool:
        """Whether nobody holds it, or whoever does gave no sign of life for long enough."""
        if not manifest.holder:
            return True
        lease = manifest.next_lease
        sign = lease, await self._store.run(self._store.files.read, f"holder.{lease}")
        now = self._clock()
        if sign != self._sign:
            self._sign, self._sign_at = sign, now
        return now - self._sign_at >= self._silent

    @property
    def _has_tree(self) -> bool:
        source = self._source
        return bool(source.labels) and not source.adopt and source.state is not None

    # The tree ---------------------------------------------------------------------------------

    async def _keep_tree(self) -> None:
        manifest = self._store.known.manifest
        now = self._clock()
        due = now - self._verified_at >= self._source.verify_seconds
        if self._tree is not None and manifest == self._brought and not due:
            return
        index = self._store.index
        wanted = winners(
            {label: index.manifest(label, limit=_WHOLE).entries for label in self._source.labels}
        )
        heads = {label: head.revision for label, head in index.heads(self._source.labels).items()}
        tree = self._tree
        if tree is None:
            tree = self._tree = await self._opened(manifest, wanted)
            self._in_tree, due = {}, False
        if due:
            self._verified_at = now
            for api_id in await self._drifted(tree) | self.refused.keys():
                self._in_tree.pop(api_id, None)
        await self._bring(tree, wanted)
        self._brought = manifest
        await self._note(manifest, heads)

    async def _opened(self, manifest: ShareManifest, wanted: dict[str, Chosen]) -> ShareTree:
        """The tree, with what is ours in it proved."""
        state = self._source.state
        if state is None:
            raise StoreError("no folder is known for the record of the share's tree")
        lease = f"{manifest.epoch} {manifest.next_lease}"
        tree = await self._run(ShareTree, self._source.path, state, lease, self._step)
        if tree.is_new:
            note = await self._store.run(self._last_note, manifest.next_lease)
            chosen = {each.entry.digest: each for each in wanted.values()}
            digests = [*chosen, *(self._store.index.used() - chosen.keys())]
            for start in range(0, len(digests), BATCH_ITEMS):
                contents = await self._store.contents(digests[start : start + BATCH_ITEMS])
                await self._run(tree.claim, contents, chosen, note)
            await self._run(tree.claimed)
        return tree

    async def _bring(self, tree: ShareTree, wanted: dict[str, Chosen]) -> None:
        there = await self._run(tree.api_ids)
        gone = (there | self._in_tree.keys()) - wanted.keys()
        news = [
            each.entry
            for api_id, each in wanted.items()
            if self._in_tree.get(api_id) != each.entry.digest
        ]
        before = dict(self.refused)
        for api_id in self.refused.keys() - wanted.keys():
            del self.refused[api_id]
        batches = list(in_batches(news, BATCH_BYTES, BATCH_ITEMS))
        for batch in batches or ([[]] if gone else []):
            found = await self._store.contents({entry.digest for entry in batch})
            contents = {e.api_id: found[e.digest] for e in batch if e.digest in found}
            failed = {
                e.api_id: f"its content {e.digest} is missing in the share"
                for e in batch
                if e.digest not in found
            }
            failed |= await self._run(tree.bring, contents, gone, wanted.__contains__)
            for entry in batch:  # what failed is tried again at the next look at every file
                self._in_tree[entry.api_id] = entry.digest
                self.refused.pop(entry.api_id, None)
            for api_id in gone - failed.keys():
                self._in_tree.pop(api_id, None)
            self.refused |= failed
            gone = set()
        if self.refused != before and self.refused:
            reasons = list(self.refused.values())[:3]
            _log.error("the share's tree lacks artifacts", count=len(self.refused), why=reasons)

    async def _drifted(self, tree: ShareTree) -> set[str]:
        found: set[str] = set()
        after = ""
        while True:
            drifted, after = await self._run(tree.drifted, after)
            found |= drifted
            if not after:
                break
        if found:
            _log.warning("files in the share's tree were changed by others", artifacts=len(found))
        return found

    async def _note(self, manifest: ShareManifest, heads: dict[str, int]) -> None:
        """For whoever keeps the tree next."""
        note = TreeNote(heads, tuple(sorted(self.refused)))
        if note != self._noted:
            name = f"tree.{manifest.next_lease}"
            await self._store.run(self._store.files.write, name, msgspec.json.encode(note))
            self._noted = note

    def _last_note(self, lease: int) -> TreeNote | None:
        files = self._store.files
        leases = [
            int(number)
            for word, _, number in (name.partition(".") for name in files.names())
            if word == "tree" and number.isdecimal() and int(number) <= lease
        ]
        content = files.read(f"tree.{max(leases)}") if leases else None
        if content is None:
            return None
        try:
            return msgspec.json.decode(content, type=TreeNote)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    async def _run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """In the tree's thread, where the share is still the one that is known."""

        def call() -> _T:
            if self._store.files.epoch() != self._store.epoch:
                raise StoreError(f"{self._source} is another one now")
            return work(*args, **kwargs)

        return await self._lane.run(call)

    async def _let_go(self) -> None:
        tree, self._tree = self._tree, None
        if tree is not None:
            await self._lane.run(tree.close)  # after what its thread is doing
        self._brought = self._noted = None
        self._in_tree = {}
        self.refused = {}

    def _tell(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            _log.error("the share's tree cannot be kept", reason=trouble)
        self._trouble = trouble
