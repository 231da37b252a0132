"""The roles that need more than a gateway does: publisher, traffic manager, and all in one."""

import asyncio
import contextlib
import fcntl
import functools
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog

from gatesync import __version__
from gatesync.cli.adopting import share_adopter
from gatesync.cli.auditing import local_who, recorded
from gatesync.cli.broker_login import checked_access, reading_again
from gatesync.cli.broker_users import follow_users, keep_nkeys, open_users
from gatesync.cli.certificates import client_tls, server_tls
from gatesync.cli.gateway_process import GATEWAY_REFUSALS, gateway_role
from gatesync.cli.git_looking import looking_at_git, not_served
from gatesync.cli.notifying import ready_at
from gatesync.cli.output import Output
from gatesync.cli.session import write_client_file
from gatesync.cli.share import tree_said
from gatesync.cli.storing import open_store
from gatesync.config import ConfigError, Secret, Settings, load_adapter
from gatesync.config.addresses import Address
from gatesync.config.problems import ConfigProblem
from gatesync.config.settings import AuditMode
from gatesync.config.tls import broker_access
from gatesync.events.hub import EventHub
from gatesync.events.nats_credentials import (
    BrokerCredentials,
    BrokerError,
    credentials_path,
    read_credentials_file,
)
from gatesync.events.nats_server import run_nats_server
from gatesync.private_file import write_private_file
from gatesync.publisher.audit import Event
from gatesync.publisher.audit_commits import recorded_commit
from gatesync.publisher.audit_file import AuditError, AuditFile
from gatesync.publisher.audit_http import AuditLayer
from gatesync.publisher.audit_log import AuditLog, open_audit_log
from gatesync.publisher.audit_metrics import AuditCollector
from gatesync.publisher.body_limits import body_limit
from gatesync.publisher.cluster import BrokerLogin, ClusterAnswer, EventHubAddress
from gatesync.publisher.http import publisher_app
from gatesync.publisher.key_files import KeyFileError, KeyFolder
from gatesync.publisher.metrics import publisher_metrics
from gatesync.publisher.pulling import FullPulls
from gatesync.publisher.pushing import Environment, Pusher, open_http_post
from gatesync.publisher.service import Publisher
from gatesync.publisher.signing import SigningKeys
from gatesync.publisher.token_registry import TokenRegistry
from gatesync.publisher.tokens import Role, TokenError, TokenFile
from gatesync.stores.receipts import KeepsReceipts, ReceiptBook
from gatesync.stores.receipts_file import FileReceiptBook
from gatesync.stores.store import Saver, StoreError
from gatesync.web.app import AppState
from gatesync.web.guard import Guard
from gatesync.web.rates import Rates
from gatesync.web.server import ListenError, serve

__all__ = [
    "REFUSALS",
    "environments_of",
    "publisher_role",
    "tokens_path",
    "traffic_manager_role",
    "up_role",
]

REFUSALS = (*GATEWAY_REFUSALS, AuditError, KeyFileError, ListenError, StoreError, TokenError)
CREDENTIALS_SECONDS = 15.0  # a broker that starts beside us writes its credentials in this time

_log = structlog.get_logger("gatesync")


async def traffic_manager_role(
    settings: Settings, listening: Callable[[str], None] = lambda _: None
) -> None:
    """Run the embedded broker until cancelled; `listening` is told where, once it does."""
    listen, binary = settings.traffic_manager.listen, settings.traffic_manager.binary
    _make_data(settings)
    with _only_broker(settings.data):
        async with (
            open_users(settings) as users,
            run_nats_server(
                settings.data,
                host=listen.host,
                port=listen.port,
                binary=binary,
                nodes=users.known,
                tls=server_tls(settings),
            ) as server,
        ):
            _log.info("traffic manager started", url=server.connect_url, pid=server.pid)
            listening(server.connect_url)
            await follow_users(server, users)


async def publisher_role(
    settings: Settings, listening: Callable[[str], None] = lambda _: None
) -> None:
    """Run one publisher until cancelled."""
    _make_data(settings)
    listen, tls = settings.publisher.listen, server_tls(settings)
    keys = SigningKeys(KeyFolder(settings.signing.directory), settings.signing.key)
    async with (
        open_store(settings) as saver,
        _receipt_book(settings, saver) as book,
        _open_hub(settings) as (hub, address),
        _audit_log(settings) as audit,
    ):
        name = f"{settings.server.node_id}-{os.getpid()}"
        heartbeat = settings.heartbeat_interval_ms / 1000
        open_post = functools.partial(open_http_post, tls=client_tls(settings))
        pusher = Pusher(environments_of(settings), heartbeat=heartbeat, open_post=open_post)
        registry = TokenRegistry(tokens_path(settings))
        publisher = Publisher(
            saver,
            hub,
            name,
            heartbeat=heartbeat,
            pusher=pusher,
            retention=settings.publisher.retention_revisions,
            retention_age=settings.publisher.retention_age_ms / 1000,
            book=book,
            forget_after=settings.publisher.forget_nodes_after_ms / 1000,
            signer=keys.signer,
            known_node=registry.node,
        )
        commit = publisher.committer.submit
        taking_over = recorded_commit(commit, audit, "take over", str(settings.share.source))
        adopter = share_adopter(settings, saver, taking_over, name)

        async def ready() -> tuple[bool, dict[str, str]]:
            error = publisher.announcer.store_error
            # Who may read but not write serves gateways all the same: told, and still ready.
            publishing = publisher.committer.store_error or "good"
            connected = "none" if hub is None else "connected" if hub.connected else "lost"
            said = {"store": error or "good", "publishing": publishing, "event_hub": connected}
            if hub is not None and hub.trouble:
                said["event_hub_trouble"] = hub.trouble
            if environments := pusher.statuses():  # told; one that is down is no reason to drain
                answer = sum(each.answers for each in environments)
                said["environments"] = f"{answer} of {len(environments)} answer"
            if unserved := not_served(saver):  # told; all else is served
                said["not_served"] = unserved
            if tree := tree_said(saver):  # told; it holds up no publish
                said["tree"] = tree
            if adopter is not None:  # told; what was taken over before is served
                said["adopted"] = adopter.said()
            said["signing"] = keys.trouble or keys.name
            if audit is not None:
                said["audit"] = audit.trouble or "good"
            return not error, said

        cluster = ClusterAnswer(name, saver.epoch, settings.heartbeat_interval_ms, address)
        pulls = FullPulls(settings.publisher.full_pulls_at_once, random=random.random)
        metrics = publisher_metrics(publisher, pulls)
        state = AppState(ready, metrics, public=_for_strangers)
        app = publisher_app(publisher, cluster, state, pulls, audit, registry.tokens, keys=keys)
        rates = Rates(settings.publisher.requests_per_second)
        largest = settings.publisher.request_max_bytes
        guarded = Guard(app, registry.authenticate, largest, rates=rates, own_limit=body_limit)
        if audit is not None:
            metrics.register(AuditCollector(audit))
        moved = publisher.announcer.beat
        async with (
            looking_at_git(saver, settings.git, moved) as with_hook,
            serve(_audited(with_hook(guarded), audit), listen.host, listen.port, tls=tls) as port,
        ):
            url = f"{settings.tls.scheme}://{Address(listen.reachable.host, port)}"
            _keep_operator_token(settings, url)
            _log.info("publisher started", url=url, epoch=saver.epoch)
            listening(url)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(publisher.run(), name="publisher")
                if adopter is not None:
                    tasks.create_task(adopter.run(), name="adopt")
                tasks.create_task(keep_nkeys(tokens_path(settings), registry), name="nkeys")


async def up_role(settings: Settings, load_again: Callable[[], Settings]) -> None:
    """Run every role in this process: broker, publisher, one gateway.

    `load_again` reads the configuration anew, for the gateway, on SIGHUP.
    """
    _make_data(settings)
    loop = asyncio.get_running_loop()
    broker: asyncio.Future[str] = loop.create_future()
    published: asyncio.Future[str] = loop.create_future()
    publishing = settings
    own_token = settings.gateway.token is None and settings.gateway.token_file is None
    if settings.gateway.enable and own_token:
        _node_token(settings)  # before the broker starts, which so knows this node at once
    async with asyncio.TaskGroup() as tasks:
        if settings.event_hub.enable and not settings.event_hub.event_listening_endpoints:
            role = traffic_manager_role(settings, broker.set_result)
            tasks.create_task(role, name="traffic manager")
            own = (await broker,)  # its port may be any free one
            hub = msgspec.structs.replace(settings.event_hub, event_listening_endpoints=own)
            publishing = msgspec.structs.replace(settings, event_hub=hub)
        tasks.create_task(publisher_role(publishing, published.set_result), name="publisher")
        url = await published
        if not settings.gateway.enable:
            ready_at(url)
            return
        gateway = settings.gateway
        if own_token:
            gateway = msgspec.structs.replace(gateway, token=_node_token(settings))
        hub = msgspec.structs.replace(settings.event_hub, service_url=url)
        all_in_one = msgspec.structs.replace(settings, gateway=gateway, event_hub=hub)

        def read_again() -> tuple[Settings, str]:
            told = load_again()
            token = told.gateway.token or _node_token(told)
            of_ours = msgspec.structs.replace(told.gateway, token=gateway.token)
            return msgspec.structs.replace(told, gateway=of_ours, event_hub=hub), token.reveal()

        tasks.create_task(gateway_role(all_in_one, read_again), name="gateway")
        labels = ", ".join(gateway.gateway_labels)
        print(
            f"gatesync is up: publisher {url}, gateway {settings.tls.scheme}://{gateway.listen} "
            f"on {labels}\n"
            f"data and tokens are in {settings.data}; in another shell, from this folder:\n"
            f'  gatesync publish examples/pizzashack --label "{gateway.gateway_labels[0]}" '
            "--wait all",
            file=sys.stderr,
            flush=True,
        )


def tokens_path(settings: Settings) -> Path:
    """Where the publisher keeps the hashes of its tokens."""
    return settings.data / "tokens.json"


@contextlib.contextmanager
def _only_broker(data: Path) -> Iterator[None]:
    """Two brokers on one folder would each overwrite the other's configuration."""
    with (data / "traffic-manager.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BrokerError(
                f"another traffic manager runs on {data}; end it, or give this one another "
                "folder in [gatesync] data"
            ) from None
        yield  # the system lets go of it even after SIGKILL


def _make_data(settings: Settings) -> None:
    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        reason = f"{settings.data} cannot be made: {error.strerror}"
        raise ConfigError([ConfigProblem(reason, "gatesync.data")]) from error


def environments_of(settings: Settings) -> list[Environment]:
    """Where events are pushed to directly."""
    if not settings.publisher.publish_directly_to_gateway:
        return []
    return [
        Environment(
            each.name, each.service_url, each.labels, each.type, each.username, each.password
        )
        for each in settings.environments
        if each.service_url is not None
    ]


def _for_strangers(said: dict[str, str]) -> dict[str, str]:
    """Without the names of artifacts and files."""
    private = {"not_served", "adopted", "tree"}
    return {name: text for name, text in said.items() if name not in private}


def _audited(app: Any, audit: AuditLog | None) -> Any:
    return app if audit is None else AuditLayer(app, audit)


@asynccontextmanager
async def _audit_log(settings: Settings) -> AsyncIterator[AuditLog | None]:
    """Begins with an entry, so that what a crash has left is mended now and not one day."""
    mode = settings.publisher.audit
    if mode is AuditMode.OFF:
        yield None
        return
    log = AuditLog(AuditFile(settings.data), required=mode is AuditMode.REQUIRED)
    event = Event(
        time=log.now(),
        who=local_who(),
        verb="start publisher",
        detail=f"{settings.server.node_id} {__version__}",
        outcome="done",
    )
    async with open_audit_log(log):
        await (log.demand(event) if log.required else log.record(event))
        yield log


@asynccontextmanager
async def _receipt_book(settings: Settings, saver: Saver) -> AsyncIterator[ReceiptBook]:
    """Beside the artifacts, so that all publishers share it; else in a file of this one's."""
    if isinstance(saver, KeepsReceipts):
        async with saver.receipt_book() as book:
            yield book
    else:
        yield FileReceiptBook(settings.data / "receipts")


@asynccontextmanager
async def _open_hub(
    settings: Settings,
) -> AsyncIterator[tuple[EventHub | None, EventHubAddress | None]]:
    """The hub as this publisher uses it, and what it tells gateways of it."""
    hub = settings.event_hub
    if not hub.enable:
        yield None, None
        return
    listen = settings.traffic_manager.listen
    endpoints = hub.event_listening_endpoints or (f"{settings.tls.broker_scheme}://{listen}",)
    if not hub.event_listening_endpoints and listen.port == 0:
        reason = (
            "is empty, and the traffic manager listens on any free port, which only it knows; "
            "name the broker here, or give [gatesync.traffic_manager] listen a port"
        )
        raise ConfigError([ConfigProblem(reason, "apim.event_hub.event_listening_endpoints")])
    open_hub = load_adapter("gatesync.events", hub.adapter, "gatesync.event_hub.adapter")
    access, ask_again = broker_access(checked_access(hub), settings.tls, endpoints), None
    password = hub.password.reveal() if hub.password else None
    user, address = hub.username, EventHubAddress(endpoints, BrokerLogin.OWN)
    if hub.username is None and not access.logs_in:
        credentials = await _broker_credentials(settings)
        user, password = credentials.publisher.user, credentials.publisher.password
        address = EventHubAddress(endpoints, BrokerLogin.NODE_KEY)
        path = hub.credentials_file or credentials_path(settings.data)
        ask_again = reading_again(endpoints, path, lambda p: read_credentials_file(p).publisher)
    name = f"publisher {settings.server.node_id}"
    async with open_hub(
        endpoints, user=user, password=password, name=name, access=access, ask_again=ask_again
    ) as opened:
        yield opened, address


async def _broker_credentials(settings: Settings) -> BrokerCredentials:
    """Read what the traffic manager wrote; it may be starting just now."""
    path = settings.event_hub.credentials_file or credentials_path(settings.data)
    try:
        async with asyncio.timeout(CREDENTIALS_SECONDS):
            while not path.exists():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise BrokerError(
            f"{path} is missing; start the traffic manager first, or name its file in "
            "[gatesync.event_hub] credentials_file, or set [apim.event_hub] enable = false "
            "to do without a broker"
        ) from None
    return read_credentials_file(path)


def _keep_operator_token(settings: Settings, url: str) -> None:
    """Give the operator of this machine a token at the first start, in a file of mode 0600."""
    tokens = TokenFile(tokens_path(settings))
    path = settings.data / "client.toml"
    known = any(
        each.role is Role.PUBLISH and not each.revoked_at and not each.is_limited_publisher
        for each in tokens.list()
    )
    token = None if known else _create_token(settings, tokens, Role.PUBLISH, "operator")
    ca = settings.tls.client.ca if settings.tls.client is not None else None
    write_client_file(path, url, token, ca)


def _node_token(settings: Settings) -> Secret:
    """The token of the gateway in this process, made at the first start."""
    path = settings.data / "gateway.token"
    node, labels = settings.server.node_id, settings.gateway.gateway_labels
    tokens = TokenFile(tokens_path(settings))
    known = {t.id: t for t in tokens.list() if t.role is Role.NODE and not t.revoked_at}
    if path.exists() and node in known and set(known[node].labels) == set(labels):
        return Secret(path.read_text().strip())
    if node in known:
        with recorded(settings, Output(json=False), "revoke token", f"node token of {node}"):
            tokens.revoke(node)
    text = _create_token(settings, tokens, Role.NODE, node, labels)
    write_private_file(path, text.encode() + b"\n")
    return Secret(text)


def _create_token(
    settings: Settings, tokens: TokenFile, role: Role, holder: str, labels: Sequence[str] = ()
) -> str:
    detail = f"{role.value} token of {holder}"
    with recorded(settings, Output(json=False), "create token", detail) as recording:
        text = tokens.create(role, holder, labels)
        recording.tell(labels=tuple(labels), detail=f"{detail}, {text.split('_')[1]}")
    return text
