"""One gateway node, put together: informer, reports, verification, admin HTTP."""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from gatesync.artifacts.signatures import Trust
from gatesync.engines.engine import Engine, Serving
from gatesync.events.hub import AskAgain, EventHub, HubAddress, HubError
from gatesync.gateway.backoff import Backoff
from gatesync.gateway.cache import Cache
from gatesync.gateway.delays import Delays
from gatesync.gateway.deployment import Deployment
from gatesync.gateway.desired import Desired, Loads, loads_all
from gatesync.gateway.endpoint_types import EndpointRule
from gatesync.gateway.health import GatewayStatus, Health, HealthView, SavedTree
from gatesync.gateway.informer import Informer
from gatesync.gateway.operating import Operator
from gatesync.gateway.receiving import Inbox, Receiver
from gatesync.gateway.reporting import Reporter, inventory_of
from gatesync.gateway.staleness import StalenessRule
from gatesync.gateway.starting import StartUp
from gatesync.gateway.verifying import Verifier
from gatesync.stores.http import HttpRetriever
from gatesync.stores.store import Retriever
from gatesync.stores.wire import ReportAnswer
from gatesync.web.client import AnsweredError, HttpClient, UnreachableError
from gatesync.web.made_later import MadeLater

if TYPE_CHECKING:
    from gatesync.gateway.metrics import GatewayMetrics

__all__ = ["Agent", "ClusterView", "HubOpener", "discovered_hub", "randoms"]

VERIFICATIONS = 64  # each publisher goes on naming its last one; those were answered
DISCOVERY_BACKOFF = Backoff(first=0.5, cap=5.0)

_log = structlog.get_logger("gatesync.gateway")

HubOpener = Callable[[HubAddress, AskAgain], AbstractAsyncContextManager[EventHub]]
"""Opens a hub at this address, and asks again when no broker is there any more."""


class ClusterView(msgspec.Struct, frozen=True):
    """What a gateway reads of a publisher's `/v1/cluster`."""

    event_hub: HubAddress | None


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
        start: how it starts, and how long it waits before it tries again.
        cache: what it keeps on its own disk; None for nothing.
        endpoint_type: hybrid, production or sandbox: which APIs it serves.
        loads: which tenants are loaded.
        forgive: told what an operator redeploys; None is everything.
        staleness: how old the last proof of a label may be, and what follows.
        saved: where artifacts are saved as files, too; None for nowhere.
        serving: the engine, where another process serves what it deploys.
        trust: the keys that changes must be signed with; None asks for no signatures.
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
        start: StartUp | None = None,
        cache: Cache | None = None,
        endpoint_type: str = "hybrid",
        loads: Loads = loads_all,
        forgive: Callable[[Collection[str] | None], None] = lambda _: None,
        staleness: StalenessRule | None = None,
        saved: SavedTree | None = None,
        serving: Serving | None = None,
        trust: Trust | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        random: Iterator[float] | None = None,
    ) -> None:
        start = start or StartUp()
        self.engine = engine
        self._client = client
        self._delays = Delays()
        self.inbox = Inbox()
        self._receiver = Receiver(self.inbox, node, endpoint_type)
        self._verified: deque[str] = deque(maxlen=VERIFICATIONS)
        self._verifications: asyncio.Queue[str] = asyncio.Queue()
        self.reporter = Reporter(
            node,
            engine.name,
            admin_url,
            self._post,
            heartbeat=heartbeat,
            staleness=staleness,
            clock=clock,
        )
        reads = retriever or HttpRetriever(client)
        verifier = Verifier(trust, clock=clock, wall_clock=wall_clock)
        self.informer = self.reporter.informer = Informer(
            labels,
            reads,
            open_hub,
            Deployment(
                Desired(labels, loads, verifier.why_not),
                engine,
                start.delay,
                EndpointRule(endpoint_type),
                verifier.why_not,
            ),
            start=start,
            verifier=verifier,
            cache=cache,
            inbox=self.inbox,
            loads=loads,
            forgive=forgive,
            on_settled=self.reporter.changed,
            on_verification=self._verify,
            random=random or randoms(),
            heartbeat=heartbeat,
            lag_seconds=lag_seconds,
            on_applied=self._delays.applied,
            clock=clock,
            wall_clock=wall_clock,
        )
        if isinstance(reads, HttpRetriever):
            reads.on_wait = self.informer.wait_for_turn
        rule = staleness or StalenessRule()
        self._view = HealthView(node, engine, self.informer, rule, clock, saved, serving)
        self.informer.deployment.serving = serving
        if serving is not None:
            serving.on_back = self._deploy_again

    async def run(self) -> None:
        """Follow, report and answer verifications until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.informer.run(), name="informer")
            tasks.create_task(self.reporter.run(), name="reporter")
            tasks.create_task(self._answer_verifications(), name="verification")

    async def follow(self, labels: Sequence[str], loads: Loads) -> None:
        """Follow other labels, or load other tenants, from now on."""
        dropped = set(self.informer.logs) - set(labels)
        await self.informer.follow(labels, loads)
        if dropped:
            self.reporter.renew()  # publishers forget what this node said of those labels

    async def trust(self, trust: Trust | None) -> None:
        """Trust other keys from now on; None asks for no signatures."""
        await self.informer.trust(trust)

    def status(self) -> GatewayStatus:
        """How far this node is."""
        return self._view.status()

    @cached_property
    def metrics(self) -> "GatewayMetrics":
        """Everything that it counts, for Prometheus; whose library is loaded with the first use."""
        from gatesync.gateway.metrics import GatewayMetrics

        informer = self.informer
        return GatewayMetrics(self._view.health, informer.pulse, self._delays, informer.verifier)

    def app(self) -> MadeLater:
        """The admin application, to be put behind a `Guard` with `OPEN_PATHS`."""

        async def ready() -> tuple[bool, Health]:
            health = self._view.health()
            return health.ready, health

        def make() -> Any:
            from gatesync.gateway.admin import admin_app
            from gatesync.web.app import AppState

            operator = Operator(self.informer, self.engine, self._view)
            return admin_app(operator, AppState(ready, self.metrics.registry), self._receiver)

        return MadeLater(make)

    async def _deploy_again(self, api_ids: Collection[str]) -> None:
        await self.informer.heal(api_ids, ())

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

    async def ask_again() -> HubAddress:
        try:
            told = (await client.get("/v1/cluster", ClusterView)).event_hub
        except (AnsweredError, UnreachableError) as error:
            raise HubError(str(error)) from error
        if told is None:
            raise HubError("the cluster has no broker any more")
        return told

    failures = 0
    numbers = randoms()
    async with AsyncExitStack() as stack:
        while True:
            try:
                told = (await client.get("/v1/cluster", ClusterView)).event_hub
                opened = None
                if told is not None:
                    opened = await stack.enter_async_context(opener(told, ask_again))
                break
            except (AnsweredError, UnreachableError, HubError) as error:
                failures += 1
                if failures == 1:
                    _log.warning("the publisher did not tell of a broker", reason=str(error))
                await asyncio.sleep(DISCOVERY_BACKOFF.delay(failures, next(numbers)))
        yield opened
