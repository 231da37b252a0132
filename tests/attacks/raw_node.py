"""A NATS client without any of our own code's manners: it tries whatever a thief would try."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from gatesync.events.nkeys import UserKey

PATIENCE = 30.0  # seconds, for what takes milliseconds


class RawNode:
    """What it heard, by subject, and what it was refused."""

    def __init__(self) -> None:
        self.client = Client()
        self.heard: list[tuple[str, bytes]] = []
        self.refused: list[str] = []
        self.closed = asyncio.Event()

    async def listen(self, subject: str, queue: str = "") -> None:
        await self.client.subscribe(subject, queue, cb=self._hear)

    async def settled(self) -> None:
        """The broker has answered everything that was asked so far.

        Raises `ConnectionResetError` where it hung up meanwhile: nats-py would wait in vain.
        """
        hung_up = asyncio.create_task(self.closed.wait())
        try:
            # nats-py's PING overtakes what waits to be written; the second does not.
            for _ in range(2):
                flushed = asyncio.create_task(self.client.flush(PATIENCE))
                await asyncio.wait([flushed, hung_up], return_when=asyncio.FIRST_COMPLETED)
                if not flushed.done():
                    flushed.cancel()
                    await asyncio.wait([flushed])
                    raise ConnectionResetError("the broker hung up")
                flushed.result()
        finally:
            hung_up.cancel()

    async def heard_on(self, subject: str, count: int = 1) -> list[bytes]:
        async with asyncio.timeout(PATIENCE):
            while len(found := [m for s, m in self.heard if s == subject]) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found

    async def _hear(self, message: Msg) -> None:
        self.heard.append((message.subject, message.data))

    async def on_error(self, error: Exception) -> None:
        self.refused.append(str(error))

    async def on_closed(self) -> None:
        self.closed.set()


@asynccontextmanager
async def raw_node(
    url: str,
    key: UserKey | None = None,
    *,
    claims: str | None = None,
    user: str | None = None,
    password: str | None = None,
) -> AsyncIterator[RawNode]:
    """Connect once, with a key or a password; `claims` is another public key than its own.

    Raises `nats.errors.Error`, when the broker does not let it in.
    """
    made = RawNode()
    made.client._public_nkey = claims or (key.public if key is not None else None)
    try:
        await made.client.connect(
            [url],
            user=user,
            password=password,
            signature_cb=key.sign if key is not None else None,
            error_cb=made.on_error,
            closed_cb=made.on_closed,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
        )
        yield made
    finally:
        await made.client.close()


async def let_in(url: str, key: UserKey) -> None:
    """Returns once this key opens the broker; it may have to hear of it first."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                if await is_let_in(url, key):
                    return
            except (nats.errors.NoServersError, OSError):
                pass  # it does not listen yet
            await asyncio.sleep(0.05)


async def is_let_in(url: str, key: UserKey | None = None, **more: str) -> bool:
    try:
        async with raw_node(url, key, **more) as found:
            await found.settled()
            return True
    except (ConnectionResetError, BrokenPipeError):
        return False  # it said why, and hung up before nats-py had written everything
    except nats.errors.Error as error:
        if not re.search("authorization violation|unexpected eof", str(error).lower()):
            raise
        return False
