"""The artifact store in a shared file system: `SharedFileSystemSaver` and `-Retriever`.

Everything but contents is answered from a `LogIndex`, after a look at what is new in the share.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar, Final, Generic, ParamSpec, TypeVar

import msgspec

from gatesync.artifacts.changes import ChangeSet, Confirmation, Cursor, Head
from gatesync.artifacts.digests import LabelDigest
from gatesync.artifacts.errors import FormatError
from gatesync.artifacts.planning import SaveRequest
from gatesync.artifacts.signatures import Attestation
from gatesync.stores.log_index import LogIndex, Planned
from gatesync.stores.share_chain import Known, News, ShareChain
from gatesync.stores.share_files import ShareFiles
from gatesync.stores.share_heads import read_issued, write_issued
from gatesync.stores.share_lane import ShareLane
from gatesync.stores.share_log import Compacted, Confirmed, Saved, Step, take
from gatesync.stores.share_source import ShareSource
from gatesync.stores.share_state import ShareState, open_state
from gatesync.stores.store import (
    PAGE_ATTESTATIONS,
    PAGE_ENTRIES,
    Delta,
    History,
    ManifestPage,
    Refused,
    SaveOutcome,
    Sign,
    SignConfirmation,
    StoreError,
)

__all__ = ["ShareRetriever", "ShareStore", "open_share_retriever", "open_share_store"]

TRIES: Final = 1_000  # to be the one who goes on; of several, one is each time
BACKOFF_SECONDS: Final = 0.02  # at most, before the next try: a few times what one takes
_ALL: Final = 2**62

_P = ParamSpec("_P")
_T = TypeVar("_T")


@asynccontextmanager
async def open_share_retriever(source: ShareSource) -> AsyncIterator["ShareRetriever"]:
    """Read from a share, which need not be mounted yet."""
    yield ShareRetriever(source)


@asynccontextmanager
async def open_share_store(source: ShareSource) -> AsyncIterator["ShareStore"]:
    """Write to a share; what belongs to it is made by `create_share` alone.

    Raises:
        StoreError: it is not mounted, or it is another one than this publisher knows.
    """
    with open_state(source) as state:
        store = ShareStore(source, state)
        await store.catch_up()
        state.know(store.epoch)
        yield store


class ShareRetriever:
    """`Retriever` on a share. Use `open_share_retriever`."""

    weak_history: ClassVar[bool] = True  # whoever may write there can write another history

    def __init__(self, source: ShareSource, step: Callable[[str], None] = lambda _: None) -> None:
        self.files = ShareFiles(source.path, step)
        self._lane = ShareLane(str(source), source.deadline_seconds)
        self._chain = ShareChain(self.files)
        self._known: Known | None = None
        self._index = LogIndex("")
        self._looking = asyncio.Lock()

    async def catch_up(self) -> None:
        """Look at the share, and take over what is new in it. Raises `StoreError`."""
        async with self._looking:
            await self._catch_up()

    async def heads(
        self, labels: Collection[str], at_least: Mapping[str, Cursor] | None = None
    ) -> dict[str, Head]:
        """See `Retriever.heads`. Each with the newest signature that a publisher gave to it."""
        await self.catch_up()
        found = self._index.heads(labels, at_least)
        return await self._lane.run(read_issued, self.files, found)

    async def changes(self, label: str, since: Cursor) -> Delta:
        """See `Retriever.changes`."""
        await self.catch_up()
        return self._index.changes(label, since)

    async def manifest(
        self,
        label: str,
        *,
        at: Cursor | None = None,
        after: str = "",
        limit: int = PAGE_ENTRIES,
        at_least: Cursor | None = None,
    ) -> ManifestPage:
        """See `Retriever.manifest`."""
        await self.catch_up()
        return self._index.manifest(label, at=at, after=after, limit=limit, at_least=at_least)

    async def digest_at(self, label: str, cursor: Cursor) -> LabelDigest | None:
        """See `Retriever.digest_at`."""
        await self.catch_up()
        return self._index.digest_at(label, cursor)

    async def attestations(
        self, label: str, after: int = 0, limit: int = PAGE_ATTESTATIONS
    ) -> tuple[Attestation, ...]:
        """See `Retriever.attestations`."""
        await self.catch_up()
        return self._index.attestations(label, after, limit)

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        """See `Retriever.contents`. What does not match its digest counts as not there."""
        return await self._lane.run(self.files.objects, list(digests))

    async def _catch_up(self) -> None:
        known = self._known

        def look() -> tuple[News | None, LogIndex | None]:
            news = self._chain.look(known)
            if news is None or not news.whole:
                return news, None
            index = LogIndex(news.known.manifest.epoch)
            take(index, news.steps)
            return news, index

        try:
            news, index = await self._lane.run(look)
            if news is None:
                return
            if index is None:
                index = self._index
                take(index, news.steps)
        except FormatError as error:
            self._known = None  # half of it may have been taken: all is read again
            raise StoreError(
                f"{self.files} has a log that cannot be read ({error}); where a newer gatesync "
                "writes there, upgrade this one"
            ) from error
        self._index, self._known = index, news.known


class ShareStore(ShareRetriever):
    """`Saver` on a share. Use `open_share_store`.

    Publishers need no leave of each other: of those who go on from one state, one does, and the
    others plan again.

    Attributes:
        tree: how the share's tree stands, in a few words; empty where there is none.
    """

    def __init__(
        self,
        source: ShareSource,
        state: ShareState,
        step: Callable[[str], None] = lambda _: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(source, step)
        self.state = state
        self.epoch = ""
        self.tree = ""
        self._source = source
        self._writer = source.holder or state.id
        self._chance = chance

    @property
    def index(self) -> LogIndex:
        """What was read last."""
        return self._index

    @property
    def known(self) -> Known:
        """How far that goes. Only after `catch_up`."""
        if self._known is None:
            raise StoreError(f"{self._source} was not read yet")
        return self._known

    async def labels(self) -> list[Head]:
        """See `Saver.labels`."""
        await self.catch_up()
        return self._index.labels()

    async def save(
        self, requests: Sequence[SaveRequest], *, sign: Sign | None = None
    ) -> list[SaveOutcome | Refused]:
        """See `Saver.save`."""
        if not requests:
            return []
        refused = [self._strange(each) for each in requests]
        ours = [each for each, reason in zip(requests, refused, strict=True) if reason is None]

        def plan(index: LogIndex) -> _Plan[Planned]:
            planned = index.plan(ours, sign)
            steps = [Saved(each) for each in planned.records]
            # What a host has cached of the share may be old: a refusal must not rest on that.
            proves = any(isinstance(each, Refused) for each in planned.answers)
            return _Plan(planned, steps, planned.contents, proves=proves)

        answers = iter((await self._write(plan)).answers if ours else [])
        return [each or next(answers) for each in refused]

    async def preview(self, requests: Sequence[SaveRequest]) -> list[SaveOutcome | Refused]:
        """See `Saver.preview`."""
        await self.catch_up()
        pairs = zip(requests, self._index.preview(requests), strict=True)
        return [self._strange(request) or answer for request, answer in pairs]

    async def history(self, name: str) -> History:
        """See `Saver.history`."""
        await self.catch_up()
        return self._index.history(name)

    async def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """See `Saver.sizes`."""
        return {digest: len(each) for digest, each in (await self.contents(digests)).items()}

    async def change_sets(self, label: str, since: int, limit: int) -> list[ChangeSet]:
        """See `Saver.change_sets`."""
        await self.catch_up()
        return self._index.change_sets(label, since, limit)

    async def confirm(
        self, label: str, confirmation_id: str, *, sign: SignConfirmation | None = None
    ) -> Confirmation:
        """See `Saver.confirm`."""

        def plan(index: LogIndex) -> _Plan[Confirmation]:
            confirmation = index.confirmation(label, confirmation_id, sign)
            return _Plan(confirmation, [Confirmed(label, confirmation)])

        return await self._write(plan)

    async def keep_issues(self, publisher: str, heads: Sequence[Head], issued_at: int) -> None:
        """See `KeepsIssues.keep_issues`."""
        await self._lane.run(write_issued, self.files, publisher, heads, issued_at)

    async def compact(self, label: str, keep: int, young: int | None = None) -> int:
        """See `Saver.compact`."""

        def plan(index: LogIndex) -> _Plan[bool]:
            floor = index.floor_of(label, keep, young)
            moved = floor > index.floor_of(label, _ALL)
            return _Plan(moved, [Compacted(label, floor)] if moved else [])

        if await self._write(plan):
            await self.sweep()
        return self._index.floor_of(label, _ALL)

    async def sweep(self) -> None:
        """Remove the objects that nobody needs. Whoever dies meanwhile loses nothing."""
        async with self._looking:
            for _ in range(TRIES):
                await self._catch_up()
                needed = await self._lane.run(self._needed)
                lying = await self._lane.run(self.files.drop, needed.__contains__)
                if await self._extend([], {}):
                    finish = self.files.finish_dropping
                    await self._lane.run(finish, lying, needed.__contains__)
                    return
                await self._wait()
        raise self._outrun()

    async def hold(self, holder: str) -> bool:
        """Have this one keep the tree under a new lease, from the known state on; or nobody."""
        async with self._looking:
            return await self._extend([], {}, holder=holder)

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do something with the share's files, in their thread."""
        return await self._lane.run(work, *args, **kwargs)

    async def _write(self, plan: "Callable[[LogIndex], _Plan[_T]]") -> _T:
        """Plan on what is there now and write that, again until nobody was faster."""
        async with self._looking:
            for _ in range(TRIES):
                await self._catch_up()
                found = await self._lane.run(plan, self._index)
                if not (found.steps or found.proves) or await self._extend(
                    found.steps, found.contents
                ):
                    return found.answer
                await self._wait()
        raise self._outrun()

    async def _extend(
        self, steps: Sequence[Step], contents: Mapping[str, bytes], holder: str | None = None
    ) -> bool:
        extended = await self._lane.run(
            self._chain.extend, self.known, steps, contents, writer=self._writer, holder=holder
        )
        if extended is None:
            return False
        take(self._index, steps)
        self._known = extended
        return True

    def _outrun(self) -> StoreError:
        return StoreError(f"{self._source}: other publishers were faster {TRIES} times")

    async def _wait(self) -> None:
        await asyncio.sleep(self._chance() * BACKOFF_SECONDS)

    def _needed(self) -> set[str]:
        return self._index.used() | {pack.digest for pack in self.known.manifest.packs}

    def _strange(self, request: SaveRequest) -> Refused | None:
        """Engines that mount the share would never see what is in other labels."""
        others = [each for each in request.labels if each not in self._source.labels]
        if not others or not self._source.labels:
            return None
        served = ", ".join(map(repr, self._source.labels))
        return Refused(
            (
                f"label {others[0]!r} is not served by {self._source}, which has {served}; add "
                "it to labels in [apim.sync_runtime_artifacts.shared], on every publisher",
            )
        )

    async def _catch_up(self) -> None:
        await super()._catch_up()
        epoch = self.known.manifest.epoch
        if not self.epoch:
            self.epoch = epoch
        elif epoch != self.epoch:
            self._known = None
            raise StoreError(
                f"{self._source} is another one now, of epoch {epoch}; this publisher knows "
                f"{self.epoch}. Mount that one again, or start the publisher anew"
            )


class _Plan(msgspec.Struct, Generic[_T]):
    """What is to be answered once the steps are written; with `proves` once nobody has gone on."""

    answer: _T
    steps: Sequence[Step]
    contents: Mapping[str, bytes] = {}
    proves: bool = False
