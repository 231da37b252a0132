"""Group commit: whatever waits goes into the next transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from gatesync.artifacts.planning import Publish, SaveRequest
from gatesync.publisher.signing import CurrentSigner, unsigned
from gatesync.stores.store import Refused, SaveOutcome, Saver, StoreError

__all__ = ["Committer"]

BATCH_REQUESTS = 256
BATCH_BYTES = 32 * 1024 * 1024
SLOW_SECONDS = 5.0  # a store that fails after longer than that is not asked for each in turn
ENDED = "this publisher is stopping; repeat the request with its key at another one, or later"

_log = structlog.get_logger("gatesync.publisher")

_Answer = SaveOutcome | Refused
_Asked = tuple[SaveRequest, asyncio.Future[_Answer]]


class Committer:
    """One task that saves; callers wait for their own answer.

    Args:
        saver: where to save.
        saved: called with each request that was saved and its outcome, once it is durable.
        signer: what signs each change set now.

    Attributes:
        store_error: why the last batch was not saved; empty when it was.
    """

    def __init__(
        self,
        saver: Saver,
        saved: Callable[[SaveRequest, SaveOutcome], Awaitable[None]],
        signer: CurrentSigner = unsigned,
    ) -> None:
        self.commits = 0
        self.saved_requests = 0
        self.store_error = ""
        self._saver = saver
        self._saved = saved
        self._signer = signer
        self._waiting: list[_Asked] = []
        self._batch: list[_Asked] = []
        self._work = asyncio.Event()
        self._ended = False

    async def submit(self, request: SaveRequest) -> _Answer:
        """Save a request; answers when it is durable (promise 3), or refused.

        Raises:
            StoreError: the store failed, perhaps after it had saved; repeating the request
                with its key is safe.
        """
        return await self.hand_in(request)

    def hand_in(self, request: SaveRequest) -> asyncio.Future[_Answer]:
        """The same, of which several may go into one commit; the future is for the caller alone."""
        if self._ended:
            raise StoreError(ENDED)
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        self._work.set()
        return answer

    async def run(self) -> None:
        """Commit until cancelled. Whoever still waits then is told so, and may repeat."""
        try:
            while True:
                await self._work.wait()
                self._batch = self._take()
                await self._commit(self._batch)
                self._batch = []  # their bytes are in the store
                if not self._waiting:
                    self._work.clear()
        finally:
            self._ended = True
            _fail(self._batch, StoreError(ENDED, unsure=True))
            _fail(self._waiting, StoreError(ENDED))

    def _take(self) -> list[_Asked]:
        size = 0
        for number, (request, _) in enumerate(self._waiting):
            size += _size(request)
            if number == BATCH_REQUESTS or (number and size > BATCH_BYTES):
                break
        else:
            number = len(self._waiting)
        batch, self._waiting = self._waiting[:number], self._waiting[number:]
        return batch

    async def _commit(self, batch: list[_Asked]) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        signer = self._signer()
        sign = signer.change_set if signer is not None else None
        try:
            answers = await self._saver.save([request for request, _ in batch], sign=sign)
        except StoreError as error:
            self.store_error = str(error)
            _fail(batch, error)
            if clock() - began >= SLOW_SECONDS:
                # Who waited as long is told why, before their own time is up.
                _fail(self._waiting, StoreError(str(error)))
                self._waiting = []
            return
        self.store_error = ""
        self.commits += 1
        # In the next turn, after the event: many wait for that. A broker holds up no answer.
        asyncio.get_running_loop().call_soon(_answer, batch, answers)
        for (request, _), answer in zip(batch, answers, strict=True):
            if isinstance(answer, SaveOutcome) and answer.change_sets and not answer.repeated:
                self.saved_requests += 1
                await self._saved(request, answer)


def _answer(batch: list[_Asked], answers: Sequence[_Answer]) -> None:
    for (_, waiting), answer in zip(batch, answers, strict=True):
        if not waiting.done():
            waiting.set_result(answer)
    asyncio.get_running_loop().call_soon(_log_all, answers)  # after those who wait


def _log_all(answers: Sequence[_Answer]) -> None:
    for answer in answers:
        if isinstance(answer, SaveOutcome) and not answer.repeated:
            for change_set in answer.change_sets:
                _log.info("committed", change=change_set.id, changes=len(change_set.changes))


def _fail(batch: list[_Asked], error: StoreError) -> None:
    for _, waiting in batch:
        if not waiting.done():  # each its own: what is raised remembers where
            waiting.set_exception(StoreError(str(error), unsure=error.unsure))


def _size(request: SaveRequest) -> int:
    return sum(
        len(item.content) for items in request.sets for item in items if isinstance(item, Publish)
    )
