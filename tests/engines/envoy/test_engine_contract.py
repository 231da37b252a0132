"""The contract of engines, kept with a real Envoy; what is translated is made by hand."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatesync.engines.engine import Deployable
from gatesync.engines.envoy.engine import EnvoyEngine
from tests.contracts.engine import EngineContract, deployable
from tests.engines.envoy.running import running
from tests.servers.gatesync import free_ports


class TestEnvoyEngine(EngineContract):
    @pytest.fixture
    async def engine(self, tmp_path: Path) -> AsyncIterator[EnvoyEngine]:
        async with running(tmp_path / "e", free_ports(1)[0]) as each:
            yield each.engine

    @pytest.fixture
    def refused(self) -> Deployable:
        return deployable("menu", '{"bad": "route", "text": "no"}')
