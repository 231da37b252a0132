"""Pushing directly: the same event, by HTTP, to each environment whose labels it concerns.

    a change set → each environment's queue → POST /v1/events
    heads, each interval → the same; only the newest wait

Each environment has a queue, a time limit and retries of its own, so one that is down holds up
nobody. What it missed is not kept for it: the log heals it, and heads tell it so (promise 1).
"""

import asyncio
import base64
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeAlias

import msgspec
import structlog

from gatesync.artifacts.changes import ChangeSet, Head
from gatesync.events.pushed import EVENT_MAX_BYTES, EVENT_TYPE, EVENTS_PATH, MadeOf, PushAnswer
from gatesync.secret import Secret
from gatesync.web.client import AnsweredError, UnreachableError, open_client
from gatesync.web.tls import ClientTls

__all__ = ["Environment", "EnvironmentStatus", "Post", "PushError", "Pusher", "open_http_post"]

PUSH_SECONDS: Final = 10.0  # for one attempt, all in all
ATTEMPTS: Final = 3  # for an event; heads are tried once, for newer ones follow
QUEUE_EVENTS: Final = 64
QUEUE_BYTES: Final = 16 * 1024 * 1024
FIRST_DELAY: Final = 0.25  # seconds; doubled each time, up to a heartbeat

_log = structlog.get_logger("gatesync.publisher")


class Environment(msgspec.Struct, frozen=True):
    """Where to push, what, and as whom: with a `username` by Basic, else by bearer token."""

    name: str
    url: str
    labels: tuple[str, ...]
    type: str = "hybrid"
    username: str | None = None
    password: Secret | None = None


class EnvironmentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How pushing to one environment goes. Times are milliseconds since 1970, 0 for never.

    `node` answered last, is of `node_type`, and made of the event what `made` says; `revisions`
    are the newest that were answered for, by label. `failures` in a row, the last one for `reason`;
    `waiting` events are in the queue, and `dropped` were left to the heads since the start.
    """

    name: str
    type: str
    url: str
    labels: tuple[str, ...]
    answered_at: int = 0
    node: str = ""
    node_type: str = ""
    made: str = ""
    revisions: dict[str, int] = {}
    failures: int = 0
    failed_at: int = 0
    reason: str = ""
    sent: int = 0
    failed: int = 0
    waiting: int = 0
    dropped: int = 0

    @property
    def answers(self) -> bool:
        """Whether it answered the last time."""
        return self.answered_at > 0 and not self.failures

    @property
    def doubt(self) -> str:
        """What does not fit although it answers; empty where all does."""
        if not self.answers:
            return ""
        if self.made == MadeOf.NOT_MINE:
            return f"{self.node} follows none of these labels"
        if self.node_type != self.type:
            return f"{self.node} is of type {self.node_type}, the configuration says {self.type}"
        return ""


class PushError(Exception):
    """An event was not taken; says why."""


Post: TypeAlias = Callable[[bytes], Awaitable[PushAnswer]]
"""Sends one event and gives the node's answer. Raises `PushError`."""

OpenPost: TypeAlias = Callable[[Environment], AbstractAsyncContextManager[Post]]


class _Item(msgspec.Struct, frozen=True, gc=False):
    message: bytes
    revisions: dict[str, int]


class Pusher:
    """Pushes to all environments, side by side.

    Args:
        environments: where to.
        heartbeat: seconds between heads, and at most between two attempts.
        open_post: opens the way to one environment.
        numbers: from [0, 1), for the jitter.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        environments: Iterable[Environment] = (),
        *,
        heartbeat: float = 5.0,
        open_post: OpenPost | None = None,
        numbers: Iterator[float] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._open_post = open_post or open_http_post
        numbers = numbers or _randoms()
        self._lanes = [_Lane(each, heartbeat, numbers, wall_clock) for each in environments]

    @property
    def labels(self) -> Collection[str]:
        """Every label that is pushed anywhere."""
        return {label for lane in self._lanes for label in lane.environment.labels}

    def statuses(self) -> list[EnvironmentStatus]:
        """How it goes, environment by environment."""
        return [lane.status() for lane in self._lanes]

    def change(self, change_set: ChangeSet, message: bytes) -> None:
        """Have an event pushed; returns at once."""
        for lane in self._lanes:
            if change_set.label in lane.environment.labels:
                lane.put(_Item(message, {change_set.label: change_set.revision}))

    def heads(self, heads: Iterable[Head], encoded: Callable[[tuple[Head, ...]], bytes]) -> None:
        """Have each environment told of the heads of its labels, in one message."""
        known = {head.label: head for head in heads}
        for lane in self._lanes:
            its = tuple(known[label] for label in lane.environment.labels if label in known)
            if its:
                lane.tell(_Item(encoded(its), {head.label: head.revision for head in its}))

    async def run(self) -> None:
        """Push until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                name = f"push to {lane.environment.name}"
                tasks.create_task(lane.run(self._open_post), name=name)


class _Lane:
    """The way to one environment."""

    def __init__(
        self,
        environment: Environment,
        heartbeat: float,
        numbers: Iterator[float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.environment = environment
        self._longest = heartbeat
        self._numbers = numbers
        self._wall_clock = wall_clock
        self._events: deque[_Item] = deque()
        self._heads: _Item | None = None
        self._work = asyncio.Event()
        self._status = EnvironmentStatus(
            name=environment.name,
            type=environment.type,
            url=environment.url,
            labels=environment.labels,
        )

    def status(self) -> EnvironmentStatus:
        return msgspec.structs.replace(self._status, waiting=len(self._events))

    def put(self, item: _Item) -> None:
        """Queue an event; where there is no room, it and all before it are left to the heads."""
        size = sum(len(each.message) for each in self._events) + len(item.message)
        if len(item.message) > EVENT_MAX_BYTES:
            self._drop(1)
        elif len(self._events) >= QUEUE_EVENTS or size > QUEUE_BYTES:
            self._drop(len(self._events) + 1)
            self._events.clear()
        else:
            self._events.append(item)
            self._work.set()

    def tell(self, heads: _Item) -> None:
        """Tell of heads after the events that wait; of several only the newest."""
        self._heads = heads
        self._work.set()

    async def run(self, open_post: OpenPost) -> None:
        async with open_post(self.environment) as post:
            while True:
                await self._work.wait()
                if self._events:
                    item = self._events.popleft()
                    await self._deliver(post, item, ATTEMPTS)
                elif self._heads is not None:
                    item, self._heads = self._heads, None
                    await self._deliver(post, item, 1)
                else:
                    self._work.clear()

    async def _deliver(self, post: Post, item: _Item, attempts: int) -> None:
        for left in reversed(range(attempts)):
            try:
                async with asyncio.timeout(PUSH_SECONDS):
                    answer = await post(item.message)
            except TimeoutError:
                self._failed(f"{self.environment.url} did not answer in {PUSH_SECONDS:g} s")
            except PushError as error:
                self._failed(str(error))
            else:
                self._answered(item, answer)
                return
            if not left and self._events:  # what it missed is in the log
                self._drop(len(self._events))
                self._events.clear()
            await asyncio.sleep(self._delay())

    def _delay(self) -> float:
        """Seconds until it is tried again, after so many failures in a row."""
        longest = min(self._longest, FIRST_DELAY * 2.0 ** min(self._status.failures - 1, 30))
        return longest * (0.5 + next(self._numbers) / 2)

    def _answered(self, item: _Item, answer: PushAnswer) -> None:
        if self._status.failures:
            _log.info("an environment answers again", environment=self.environment.name)
        before = self._status
        self._status = msgspec.structs.replace(
            before,
            answered_at=self._now(),
            node=answer.node,
            node_type=answer.type,
            made=answer.made.value,
            revisions=before.revisions | item.revisions,
            failures=0,
            sent=before.sent + 1,
        )
        if self._status.doubt and self._status.doubt != before.doubt:
            _log.warning(
                "an environment answers, but does not fit",
                environment=self.environment.name,
                why=self._status.doubt,
            )

    def _failed(self, reason: str) -> None:
        before = self._status
        if not before.failures:
            _log.warning(
                "an event was not pushed; heads will tell",
                environment=self.environment.name,
                reason=reason,
            )
        self._status = msgspec.structs.replace(
            before,
            failures=before.failures + 1,
            failed_at=self._now(),
            reason=reason,
            failed=before.failed + 1,
        )

    def _drop(self, count: int) -> None:
        dropped = self._status.dropped + count
        self._status = msgspec.structs.replace(self._status, dropped=dropped)

    def _now(self) -> int:
        return int(self._wall_clock() * 1000)


@asynccontextmanager
async def open_http_post(
    environment: Environment, *, tls: ClientTls | None = None
) -> AsyncIterator[Post]:
    """The way to a gateway's HTTP, with the environment's credentials and a few kept connections.

    `tls`: whom to trust where the URL is https. Raises `ValueError` for a URL or token that cannot
    be sent.
    """
    password = environment.password.reveal() if environment.password else None
    headers, token = {"Content-Type": EVENT_TYPE}, password
    if environment.username is not None:
        pair = f"{environment.username}:{password or ''}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        token = None
    async with open_client(environment.url, token, timeout=PUSH_SECONDS, tls=tls) as client:

        async def post(message: bytes) -> PushAnswer:
            try:
                response = await client.request("POST", EVENTS_PATH, body=message, headers=headers)
                return msgspec.json.decode(response.body, type=PushAnswer)
            except (AnsweredError, UnreachableError) as error:
                raise PushError(str(error)) from error
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                said = f"{environment.url}{EVENTS_PATH} is not a gateway of gatesync: {error}"
                raise PushError(said) from error

        yield post


def _randoms() -> Iterator[float]:
    while True:
        yield random.random()  # noqa: S311 - spreads load; secrets come from elsewhere
