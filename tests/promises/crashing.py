"""An engine that ends the whole process, the hard way, when it is given certain bytes."""

import os
import signal
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gatesync.engines.engine import Deployable
from gatesync.engines.memory import MemoryEngine

FATAL = b"fatal"


class CrashingEngine(MemoryEngine):
    """A memory engine, but for that."""

    async def apply(
        self, deploy: Sequence[Deployable], undeploy: Collection[str]
    ) -> Mapping[str, str]:
        if any(FATAL in each.content for each in deploy):
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().apply(deploy, undeploy)


@asynccontextmanager
async def open_crashing_engine(_settings: Any) -> AsyncIterator[CrashingEngine]:
    yield CrashingEngine()
