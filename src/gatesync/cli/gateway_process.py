"""The gateway role as a process of its own: what `gatesync gateway --config FILE` runs.

It imports no typer and no rich, and SQLAlchemy only where it reads the database itself, so that
a node with a thousand artifacts stays small, and starts quickly.
"""

import sys

if "rich" not in sys.modules:
    # structlog takes rich along wherever it finds it: 26 ms and some megabytes for tracebacks in
    # colour that a gateway's log has no use for.
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog

    del sys.modules["rich"]
else:
    import structlog

import asyncio
import contextlib
import gc
import secrets
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hmac import compare_digest
from pathlib import Path

from gatesync.cli.certificates import client_tls, server_tls
from gatesync.cli.git_looking import looking_at_git
from gatesync.cli.logs import configure_logs
from gatesync.cli.notifying import told
from gatesync.cli.reloading import ReadAgain, follow_configuration, loads_of, trust_of
from gatesync.cli.retrieving import lag_seconds, open_retriever, reads_from
from gatesync.cli.running import EXIT_WRONG, run_role
from gatesync.cli.saving_locally import saved_locally
from gatesync.cli.state_line import state_line
from gatesync.config import ConfigError, Loaded, Secret, Settings, load, load_adapter
from gatesync.config.problems import ConfigProblem
from gatesync.config.secret import read_secret_file
from gatesync.config.settings import GatewaySettings
from gatesync.engines.engine import Engine, EngineError, Measured, Serving
from gatesync.events.hub import EventHub, HubAddress
from gatesync.events.nats_credentials import BrokerError
from gatesync.gateway.agent import Agent, discovered_hub
from gatesync.gateway.cache import CacheInUseError, open_cache
from gatesync.gateway.crash_guard import CautiousEngine, cautious
from gatesync.gateway.health import SavedTree
from gatesync.gateway.installation import Installation, guarded, read_installation
from gatesync.gateway.open_paths import OPEN_PATHS
from gatesync.gateway.receiving import with_events
from gatesync.gateway.staleness import StalenessRule
from gatesync.gateway.starting import StartUp
from gatesync.private_file import write_private_file
from gatesync.web.client import HttpClient, open_client
from gatesync.web.guard import Guard
from gatesync.web.made_later import MadeLater
from gatesync.web.rates import Rates
from gatesync.web.server import ListenError, serve

__all__ = ["GATEWAY_REFUSALS", "gateway_role", "main"]

GATEWAY_REFUSALS = (ConfigError, ListenError, BrokerError, CacheInUseError, EngineError)
ADMIN_REQUEST_BYTES = 1024 * 1024
COLLECTOR_SECONDS = 60.0  # a start that takes longer waits for others, and need not hurry

_log = structlog.get_logger("gatesync.gateway")


def main(path: Path | None = None) -> int:
    """Run the gateway that a configuration file describes; answers with the exit code."""
    gc.disable()  # until it has started: it would look a hundred times at what only grows
    try:
        loaded = load(path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_WRONG
    configure_logs(loaded.settings.log_format, loaded.settings.log_level)
    tell_warnings(loaded)

    def read_again() -> tuple[Settings, str]:
        settings = load(path).settings
        return settings, node_token(settings)

    return run_role(gateway_role(loaded.settings, read_again), GATEWAY_REFUSALS)


def tell_warnings(loaded: Loaded) -> None:
    """Log what the configuration says that nobody will act on."""
    for warning in loaded.warnings:
        _log.warning(warning.at(loaded.path))
    if loaded.note:
        _log.info(loaded.note)


async def gateway_role(settings: Settings, read_again: ReadAgain) -> None:
    """Run one gateway until cancelled; `read_again` is asked for its configuration on SIGHUP."""
    gateway = settings.gateway
    heartbeat = settings.heartbeat_interval_ms / 1000
    url = settings.event_hub.service_url
    tls = server_tls(settings)
    admin_token = _own_token(settings, gateway.admin_token, "admin")
    push_token = _own_token(settings, gateway.push_token, "push")
    reads = reads_from(settings)
    open_engine = load_adapter("gatesync.engines", gateway.engine, "gatesync.gateway.engine")
    installation = _installation(gateway.home)

    def authenticate(token: str) -> str | None:
        return "operator" if compare_digest(token.encode(), admin_token.encode()) else None

    async with (
        open_client(url, node_token(settings), timeout=10.0, tls=client_tls(settings)) as client,
        open_retriever(settings, client) as retriever,
        open_engine(settings) as opened,
        _cautious(opened, settings) as careful,
        saved_locally(guarded(careful, installation), settings) as engine,
        open_cache(settings.data / "cache", served=engine.content) as cache,
    ):
        agent = Agent(
            settings.server.node_id,
            gateway.gateway_labels,
            client,
            engine,
            lambda: _hub(settings, client),
            admin_url=f"{settings.tls.scheme}://{gateway.listen}",
            heartbeat=heartbeat,
            retriever=retriever,
            start=_start_up(gateway),
            cache=cache,
            endpoint_type=gateway.type.value,
            loads=loads_of(settings),
            forgive=careful.forgive,
            lag_seconds=lag_seconds(settings),
            staleness=StalenessRule(gateway.max_staleness_ms / 1000, gateway.when_stale),
            saved=engine if isinstance(engine, SavedTree) else None,
            serving=opened if isinstance(opened, Serving) else None,
            trust=trust_of(settings),
        )
        if isinstance(opened, Measured):
            agent.metrics.registry.register(opened.metrics)
        admin = agent.app()
        operators = Guard(
            admin,
            authenticate,
            ADMIN_REQUEST_BYTES,
            open_paths=OPEN_PATHS,
            passwords=True,
            rates=Rates(),
        )
        app = with_events(admin, operators, push_token)
        async with (
            looking_at_git(retriever, settings.git, agent.informer.look) as with_hook,
            serve(with_hook(app), gateway.listen.host, gateway.listen.port, tls=tls) as port,
        ):
            _log.info(
                "gateway started",
                node=settings.server.node_id,
                labels=gateway.gateway_labels,
                publisher=url,
                reads=reads,
                admin_port=port,
                home=str(gateway.home),
                base_files=len(installation.files),
                trusted_keys=[key.key_id for key in gateway.trusted_keys],
            )
            # Its start, not its readiness: a node that drains has started all the same.
            until_ready = agent.informer.until_ready
            async with told(until_ready, lambda: state_line(agent.status())):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(agent.run(), name="agent")
                    tasks.create_task(_after_start(admin, until_ready), name="after the start")
                    tasks.create_task(
                        follow_configuration(read_again, settings, agent, client), name="SIGHUP"
                    )


async def _after_start(admin: MadeLater, until_ready: Callable[[], Awaitable[None]]) -> None:
    """What a start went before: Python's collector, and the admin's HTTP for the first who asks."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(COLLECTOR_SECONDS):
            await until_ready()
    gc.freeze()  # what was loaded by now stays
    gc.enable()
    await until_ready()
    await admin.made()


def _start_up(gateway: GatewaySettings) -> StartUp:
    return StartUp(
        gateway.data_retrieval_mode.value,
        retries=gateway.max_retry_count,
        wait=gateway.deployment_retry_duration_ms / 1000,
        from_cache=gateway.start_from_cache,
    )


@asynccontextmanager
async def _cautious(engine: Engine, settings: Settings) -> AsyncIterator[CautiousEngine]:
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with cautious(engine, settings.data / "deploying.json") as careful:
        yield careful


def _installation(home: Path) -> Installation:
    """What lies at this node already. Raises `ConfigError` where that cannot be told."""
    try:
        if home.is_dir():
            return read_installation(home)
        reason = f"there is no folder {home}; name the one that this node is installed in"
    except OSError as error:
        reason = (
            f"{error.filename} cannot be read: {error.strerror}; a gateway must see which files "
            "belong to its installation, to keep them"
        )
    raise ConfigError([ConfigProblem(reason, "gatesync.gateway.home")])


def node_token(settings: Settings) -> str:
    """The node's own token. Raises `ConfigError` where there is none."""
    gateway, key = settings.gateway, "gatesync.gateway.token_file"
    path = gateway.token_file or settings.data / "gateway.token"
    if gateway.token is not None:
        secret, key = gateway.token, "gatesync.gateway.token"
    elif not path.exists():
        labels = " ".join(f"--label {shlex.quote(label)}" for label in gateway.gateway_labels)
        reason = (
            "this gateway has no token; where the publisher runs: gatesync token create "
            f"--role node --id {settings.server.node_id} {labels}, "
            f"and put what it prints into {path} (chmod 600)"
        )
        raise ConfigError([ConfigProblem(reason, key)])
    else:
        secret = read_secret_file(path, key)
    text = secret.reveal()
    if not (text.isascii() and text.isprintable()):
        reason = "holds a line break or a letter that no token has; copy the token anew"
        raise ConfigError([ConfigProblem(reason, key)])
    return text


def _own_token(settings: Settings, given: Secret | None, whose: str) -> str:
    """A token of this gateway's HTTP: as given, or made at the first start, with mode 0600."""
    if given is not None:
        return given.reveal()
    path = settings.data / f"{whose}.token"
    if not path.exists():
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private_file(path, secrets.token_urlsafe(32).encode() + b"\n")
    return read_secret_file(path, f"gatesync.gateway.{whose}_token").reveal()


def _hub(settings: Settings, client: HttpClient) -> AbstractAsyncContextManager[EventHub | None]:
    """The event hub as configured, or as the publisher says."""
    hub = settings.event_hub
    name = f"gateway {settings.server.node_id}"
    if not hub.enable:
        return _no_hub()
    from gatesync.cli.broker_login import hub_opener  # a cluster without a broker does without

    opener = hub_opener(settings, name, lambda: client.token)
    if not hub.event_listening_endpoints:
        return discovered_hub(client, opener)
    known = HubAddress(hub.event_listening_endpoints)

    async def as_configured() -> HubAddress:
        return known

    return opener(known, as_configured)


@asynccontextmanager
async def _no_hub() -> AsyncIterator[None]:
    yield None
