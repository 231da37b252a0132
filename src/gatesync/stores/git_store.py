"""The artifact store in Git: a saver on one branch.

Each change set is a commit; the commits of a batch go with one push, which is whole or not at
all. Who is outrun by another's push takes that over, plans again and pushes again.
"""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from gatesync.artifacts.changes import ChangeSet, Confirmation, Head
from gatesync.artifacts.planning import SaveRequest
from gatesync.stores.git_branch import Branch, NoBranchError, open_branch, to_end
from gatesync.stores.git_command import GitError
from gatesync.stores.git_message import COMMIT_FORMAT, Confirmed, Note, with_note
from gatesync.stores.git_objects import DamagedError
from gatesync.stores.git_repository import Draft
from gatesync.stores.git_retriever import GitRetriever
from gatesync.stores.git_source import GitSource
from gatesync.stores.git_trouble import explain
from gatesync.stores.git_writing import Written, drafts_of, extension
from gatesync.stores.store import History, Refused, SaveOutcome, Sign, SignConfirmation, StoreError

__all__ = ["GitStore", "open_git_store"]

SAVE_SECONDS: Final = 120.0  # how long others may outrun us
FIRST_PAUSE: Final = 0.02  # after having been outrun; it doubles
LONGEST_PAUSE: Final = 1.0

Plan: TypeAlias = Callable[[], Awaitable[Written]]
"""Makes commits on top of what is known now; called again where others were faster."""


@asynccontextmanager
async def open_git_store(source: GitSource) -> AsyncIterator["GitStore"]:
    """Store in a branch, which is begun where it is not there, and look at it each interval.

    Raises:
        StoreError: git is not to go there, it cannot be read, or the clone cannot be kept.
    """
    if source.allowed_signers is not None and source.signing_key is None:
        raise StoreError(
            f"{source}: only signed commits count, and this publisher has no signing_key"
        )
    async with open_branch(source) as branch:
        store = GitStore(branch)
        await store.begin()
        yield store


class GitStore(GitRetriever):
    """`Saver` on a branch. Use `open_git_store`."""

    def __init__(
        self,
        branch: Branch,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(branch)
        self._recent = branch.source.poll_seconds  # many gateways ask; our own news are known
        self._clock = clock
        self._wall_clock = wall_clock
        self._random = random
        self._saving = asyncio.Lock()

    @property
    def epoch(self) -> str:
        """See `Saver.epoch`."""
        return self._branch.log.epoch

    async def begin(self) -> None:
        """Read the branch; begin it where it is not there. Raises `StoreError`."""
        try:
            await self._branch.look()
        except NoBranchError:
            await self._write(self._beginning)
        if self._branch.lost:
            await self._write(self._nothing)

    async def labels(self) -> list[Head]:
        """See `Saver.labels`."""
        await self._branch.look(self._branch.source.poll_seconds)
        if self._branch.lost:
            await self._write(self._nothing)
        return await self._branch.ask(lambda index: index.labels())

    async def save(
        self, requests: Sequence[SaveRequest], *, sign: Sign | None = None
    ) -> list[SaveOutcome | Refused]:
        """See `Saver.save`."""
        answers: list[SaveOutcome | Refused] = []
        labels = {label for request in requests for label in request.labels}

        async def plan() -> Written:
            nonlocal answers
            await self._branch.describe(labels)
            answers, written = await to_end(self._planned, requests, sign)
            return written

        if requests:
            await self._write(plan)
        return answers

    async def preview(self, requests: Sequence[SaveRequest]) -> list[SaveOutcome | Refused]:
        """See `Saver.preview`."""
        async with self._branch.working:
            try:
                await self._branch.describe({label for asked in requests for label in asked.labels})
            except DamagedError as error:
                raise self._branch.damaged(error) from error
            first = self._branch.log.count + 1
        return await self._branch.ask(lambda index: index.preview(requests, first_revision=first))

    async def history(self, name: str) -> History:
        """See `Saver.history`."""
        return await self._branch.ask(lambda index: index.history(name))

    async def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """See `Saver.sizes`."""
        return self._branch.sizes(digests)

    async def change_sets(self, label: str, since: int, limit: int) -> list[ChangeSet]:
        """See `Saver.change_sets`."""
        return await self._branch.ask(lambda index: index.change_sets(label, since, limit))

    async def confirm(
        self, label: str, confirmation_id: str, *, sign: SignConfirmation | None = None
    ) -> Confirmation:
        """See `Saver.confirm`."""
        confirmation: Confirmation | None = None

        async def plan() -> Written:
            nonlocal confirmation
            log = self._branch.log
            confirmation = log.index.confirmation(label, confirmation_id, sign)
            confirmed = Confirmed(label, confirmation)
            note = Note(COMMIT_FORMAT, base=log.head, confirmed=confirmed)
            return self._single(f"Confirm the history of {label}", note)

        await self._write(plan)
        assert confirmation is not None
        return confirmation

    async def compact(self, label: str, keep: int, young: int | None = None) -> int:
        """See `Saver.compact`. A branch keeps everything: nothing is forgotten."""
        return 0

    # Writing ------------------------------------------------------------------------------

    def _planned(
        self, requests: Sequence[SaveRequest], sign: Sign | None
    ) -> tuple[list[SaveOutcome | Refused], Written]:
        """In a thread: 10,000 artifacts take seconds. Who calls holds `working`."""
        log = self._branch.log
        planned = log.index.plan(requests, sign, first_revision=log.count + 1)
        return planned.answers, drafts_of(log, requests, planned, self._now())

    async def _write(self, plan: "Plan") -> None:
        """Push what is planned on top of everything that others have pushed.

        Raises:
            StoreError: it is not there; or, where that is `unsure`, it may be.
        """
        ends = self._clock() + SAVE_SECONDS
        pause = FIRST_PAUSE
        async with self._saving:
            await self._note_loss()
            while not await self._written(plan):
                if self._clock() > ends:
                    raise StoreError(
                        f"{self._branch.source}: others have pushed before each of our pushes "
                        f"for {SAVE_SECONDS:g} s; try again"
                    )
                await asyncio.sleep(pause * self._random())
                pause = min(LONGEST_PAUSE, 2 * pause)
                await self._branch.look()
                await self._note_loss()

    async def _written(self, plan: "Plan") -> bool:
        """Whether that came about; False where others were faster."""
        branch = self._branch
        if branch.current is None and not isinstance(branch.trouble, NoBranchError):
            await branch.look()
        async with branch.working:
            if branch.stopped:
                raise StoreError(f"{branch.source}: nothing can be saved: {branch.stopped}")
            try:
                ended = await self._pushed(plan)
            except DamagedError as error:
                raise branch.damaged(error) from error
        if branch.current is None:  # what was pushed is the beginning
            branch.answered()
            await branch.look()
        return ended

    async def _pushed(self, plan: "Plan") -> bool:
        """As `_written`, for who holds `working`."""
        branch = self._branch
        written = await plan()
        if not written.drafts:
            return True
        head = branch.current.head if branch.current is not None else ""
        try:
            ids = await branch.repository.write(written.drafts, head)
            await self._require_allowed(head, ids[-1])
        except GitError as error:
            raise StoreError(f"{branch.source}: {explain(error.told)}") from error
        try:
            if not await branch.repository.push(ids[-1]):
                return False
        except GitError as error:
            raise StoreError(str(branch.failed(error)), unsure=True) from error
        if branch.current is not None:
            await branch.extend(extension(written, ids))
        return True

    async def _require_allowed(self, since: str, until: str) -> None:
        """Raise `StoreError` where nobody would accept what this publisher signs."""
        signers = self._branch.source.allowed_signers
        if signers is None:
            return
        verdicts = await self._branch.repository.accepted(since, until)
        if not all(good for _, good, _ in verdicts):
            raise StoreError(
                f"{self._branch.source}: signing_key {self._branch.source.signing_key} is not "
                f"allowed by {signers}; nobody would accept what this publisher signs"
            )

    async def _beginning(self) -> Written:
        """The first commit of a branch: each begins a history of its own."""
        if self._branch.current is not None:  # another publisher was faster
            return Written()
        note = Note(COMMIT_FORMAT, epoch=str(uuid.uuid4()))
        return self._single("Begin the log of gatesync", note)

    async def _note_loss(self) -> None:
        """Write down that the history was rewritten, so that all call what follows the same."""
        while self._branch.lost:
            if await self._written(self._new_epoch):
                await self._branch.settle_loss()
            else:  # another publisher may have done so
                await self._branch.look()

    async def _nothing(self) -> Written:
        return Written()

    async def _new_epoch(self) -> Written:
        log = self._branch.log
        note = Note(COMMIT_FORMAT, base=log.head, epoch=log.epoch)
        return self._single("This history was rewritten: a new epoch begins", note)

    def _single(self, subject: str, note: Note) -> Written:
        """One commit without files."""
        now = self._now()
        draft = Draft(with_note(subject, note), self._branch.source.author_name, now, now)
        return Written([draft], [{}])

    def _now(self) -> int:
        return int(self._wall_clock())
