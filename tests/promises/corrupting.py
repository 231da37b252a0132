"""An engine whose memory a test can damage: while a file exists, it names what to damage."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gatesync.engines.memory import MemoryEngine

CORRUPT_FILE = "GATESYNC_TEST_CORRUPT_FILE"


class CorruptingEngine(MemoryEngine):
    """A memory engine that damages, once, the artifact that the file names."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def content(self, api_id: str) -> bytes | None:
        if self._file.exists():
            damaged = self._file.read_text()
            self._file.unlink()
            content = self._deployed[damaged]
            self._deployed = self._deployed.set(damaged, content.replace(b"e", b"3", 1))
        return super().content(api_id)


@asynccontextmanager
async def open_corrupting_engine(_settings: Any) -> AsyncIterator[CorruptingEngine]:
    yield CorruptingEngine(Path(os.environ[CORRUPT_FILE]))
