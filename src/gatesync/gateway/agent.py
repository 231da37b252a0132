"""One gateway node, put together: informer, reports, verification, admin HTTP."""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import structlog

from gatesync.engines.engine import Engine
from gatesync.events.hub import EventHub, HubError
from gatesync.gateway.admin import GatewayStatus, admin_app, status_of
from gatesync.gateway.backoff import Backoff
from gatesync.gateway.deployment import Deployment
from gatesync.gateway.informer import Informer
from gatesync.gateway.metrics import gateway_metrics
from gatesync.gateway.reporting import Reporter, inventory_of
from gatesync.stores.http import HttpRetriever
from gatesync.stores.store import Retriever
from gatesync.stores.wire import ReportAnswer
from gatesync.web.app import AppState
from gatesync.web.client import AnsweredError, HttpClient, UnreachableError

__all__ = ["Agent", "ClusterView", "HubOpener", "discovered_hub", "randoms"]

VERIFICATIONS = 64  # each publisher goes on naming its last one; those were answered
DISCOVERY_BACKOFF = Backoff(first=0.5, cap=5.0)

_log = structlog.get_logger("gatesync.gateway")

HubOpener = Callable[[tuple[str, ...], str, str], AbstractAsyncContextManager[EventHub]]
"""Opens a hub on these endpoints, as this user with this password."""


class _HubAddress(msgspec.Struct, frozen=True):
    endpoints: tuple[str, ...]
    username: str = ""
    password: str = ""


class ClusterView(msgspec.Struct, frozen=True):
    """What a gateway reads of a publisher's `/v1/cluster`."""

    event_hub: _HubAddress | None


class Agent:
    """A gateway node.

    Args:
        node: its id.
        labels: what it follows, the preferred first.
        client: its publisher, for reports when there is no broker.
        retriever: where it reads artifacts; the publisher itself by default.
        lag_seconds: for how long that may show an older state, as a replica does.
        engine: what it deploys into.
        open_hub: opens the broker's hub.
        admin_url: told to the publisher, for people.
        heartbeat: seconds.
    """

    def __init__(
        self,
        node: str,
        labels: Sequence[str],
        client: HttpClient,
        engine: Engine,
        open_hub: Callable[[], AbstractAsyncContextManager[EventHub | None]],
        *,
        admin_url: str = "",
        heartbeat: float = 5.0,
        retriever: Retriever | None = None,
        lag_seconds: float = 0.0,
        retry: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Iterator[float] | None = None,
    ) -> None:
        self.engine = engine
        self._node = node
        self._client = client
        self._clock = clock
        self._verified: deque[str] = deque(maxlen=VERIFICATIONS)
        self._verifications: asyncio.Queue[str] = asyncio.Queue()
        self.reporter = Reporter(
            node, engine.name, admin_url, self._post, heartbeat=heartbeat, clock=clock
        )
        self.informer = self.reporter.informer = Informer(
            labels,
            retriever or HttpRetriever(client),
            open_hub,
            Deployment(labels, engine, retry or Backoff()),
            on_settled=self.reporter.changed,
            on_verification=self._verify,
            random=random or randoms(),
            heartbeat=heartbeat,
            lag_seconds=lag_seconds,
            clock=clock,
        )

    async def run(self) -> None:
        """Follow, report and answer verifications until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.informer.run(), name="informer")
            tasks.create_task(self.reporter.run(), name="reporter")
            tasks.create_task(self._answer_verifications(), name="verification")

    def status(self) -> GatewayStatus:
        """How far this node is."""
        return status_of(self._node, self.engine, self.informer, self._clock)

    def app(self) -> Any:
        """The admin application, to be put behind a `Guard`."""

        async def ready() -> tuple[bool, GatewayStatus]:
            status = self.status()
            return status.ready, status

        state = AppState(ready, gateway_metrics(self.informer, self._clock))
        return admin_app(self.informer, self.engine, self.status, state)

    def _verify(self, verification: str) -> None:
        if verification not in self._verified:
            self._verified.append(verification)
            self._verifications.put_nowait(verification)

    async def _answer_verifications(self) -> None:
        while True:
            verification = await self._verifications.get()
            self.reporter.verified(await inventory_of(self.informer, verification))

    async def _post(self, report: bytes) -> None:
        headers = {"Content-Type": "application/octet-stream"}
        try:
            response = await self._client.request(
                "POST", "/v1/reports", body=report, headers=headers
            )
            answer = msgspec.json.decode(response.body, type=ReportAnswer)
        except (AnsweredError, UnreachableError) as error:
            raise ConnectionError(str(error)) from error
        except msgspec.DecodeError as error:
            raise ConnectionError(f"{self._client.url}/v1/reports: {error}") from error
        if answer.verification:
            self._verify(answer.verification)


def randoms() -> Iterator[float]:
    """Numbers from [0, 1), for backoff and jitter."""
    while True:
        yield random.random()  # noqa: S311 - spreads load; secrets come from elsewhere


@asynccontextmanager
async def discovered_hub(client: HttpClient, opener: HubOpener) -> AsyncIterator[EventHub | None]:
    """Ask the publisher where the broker is, for as long as it takes, and open it.

    Yields None where the cluster has no broker.
    """
    failures = 0
    numbers = randoms()
    async with AsyncExitStack() as stack:
        while True:
            try:
                told = (await client.get("/v1/cluster", ClusterView)).event_hub
                opened = None
                if told is not None:
                    opening = opener(told.endpoints, told.username, told.password)
                    opened = await stack.enter_async_context(opening)
                break
            except (AnsweredError, UnreachableError, HubError) as error:
                failures += 1
                if failures == 1:
                    _log.warning("the publisher did not tell of a broker", reason=str(error))
                await asyncio.sleep(DISCOVERY_BACKOFF.delay(failures, next(numbers)))
        yield opened
