"""An engine that notes in a file what it is given to deploy: a line with the digest for each."""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from gatesync.config import Settings
from gatesync.engines.engine import Deployable
from gatesync.engines.memory import MemoryEngine

FILE = "deployed"


class CountingEngine(MemoryEngine):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    async def apply(
        self, deploy: Sequence[Deployable], undeploy: Collection[str]
    ) -> Mapping[str, str]:
        with self._path.open("a") as file:
            file.writelines(f"{each.entry.digest}\n" for each in deploy)
        return await super().apply(deploy, undeploy)


@asynccontextmanager
async def open_counting_engine(settings: Settings) -> AsyncIterator[CountingEngine]:
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    yield CountingEngine(settings.data / FILE)


def counted(data: Path) -> Counter[str]:
    """How often each digest was deployed by the gateway of this data folder."""
    return Counter((data / FILE).read_text().split())
