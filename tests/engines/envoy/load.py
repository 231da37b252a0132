"""Constant load on one path, and what came of it; an upstream that counts."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.engines.envoy.running import ask

CONNECTIONS = 4


class Load:
    """What was answered, by status and body, and what failed otherwise."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[int, str]] = Counter()
        self.faults: list[str] = []
        self._moved = asyncio.Event()

    @property
    def count(self) -> int:
        return sum(self.answers.values())

    @property
    def failures(self) -> list[object]:
        return [*self.faults, *(each for each in self.answers if each[0] != 200)]

    def answered(self, answer: tuple[int, str]) -> None:
        self.answers[answer] += 1
        self._moved.set()

    async def more(self, count: int = 20) -> None:
        """Wait until so many more requests were answered."""
        async with asyncio.timeout(30.0):
            until = self.count + count
            while self.count < until:
                assert not self.faults, self.faults
                self._moved.clear()
                await self._moved.wait()


@asynccontextmanager
async def load(port: int, path: str) -> AsyncIterator[Load]:
    """Ask again and again on a few connections while the block runs."""
    found, stop = Load(), asyncio.Event()

    async def keep_asking() -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while not stop.is_set():
                async with asyncio.timeout(30.0):
                    found.answered(await ask(reader, writer, path))
                await asyncio.sleep(0.001)  # leave the two cores to others, too
            writer.close()
        except (OSError, EOFError, TimeoutError) as error:
            found.faults.append(repr(error))
            found.answered((0, ""))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(keep_asking())
        try:
            yield found
        finally:
            stop.set()


@asynccontextmanager
async def upstream(text: str) -> AsyncIterator[int]:
    """Answers every request with this text; yields its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                body = text.encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
