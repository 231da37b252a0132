"""Which nodes the broker lets in, kept in step with the tokens while it runs.

    async with open_users(settings) as users:
        ...  # users.known at the start; then follow_users(server, users), until cancelled

Beside a publisher its `tokens.json` is looked at: one stat each time. On another machine a
publisher is asked, with a token that may read; what it said last is kept in
`<data>/broker-users.json`, so that a broker that is started without a publisher lets in whom it let
in before.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from gatesync.cli.certificates import client_tls
from gatesync.config import ConfigError, Settings
from gatesync.config.secret import read_secret_file
from gatesync.events.nats_credentials import BrokerError
from gatesync.events.nats_server import NatsServer
from gatesync.events.nats_users import NodeUser
from gatesync.private_file import write_private_file
from gatesync.publisher.broker_users import node_users
from gatesync.publisher.cluster import BrokerUsersAnswer
from gatesync.publisher.token_registry import TokenRegistry
from gatesync.publisher.tokens import Token, TokenError, TokenFile
from gatesync.web.client import AnsweredError, HttpClient, UnreachableError, open_client

__all__ = ["BrokerUsers", "follow_users", "keep_nkeys", "open_users"]

TOKEN_KEY: Final = "gatesync.traffic_manager.token_file"  # noqa: S105 - the name of a key
LOOK_SECONDS: Final = 0.25  # between two looks at a file
NKEY_SECONDS: Final = 1.0  # between two looks for nodes that the broker does not know yet
SETTLE_SECONDS: Final = 1.0  # after a change: with a thousand nodes a reload takes 100 ms

_UNTOLD: Final = (AnsweredError, UnreachableError, ConfigError, OSError, msgspec.DecodeError)

_log = structlog.get_logger("gatesync")


class BrokerUsers(Protocol):
    """Where the nodes are known: `known` is what was said last, `seconds` how often to ask."""

    known: tuple[NodeUser, ...]
    seconds: float

    async def read(self) -> tuple[NodeUser, ...]:
        """All nodes that may connect now. Raises `BrokerError` when nobody can tell."""
        ...


@asynccontextmanager
async def open_users(settings: Settings) -> AsyncIterator[BrokerUsers]:
    """The nodes as the publisher here, or the one that the configuration names, knows them.

    Raises:
        ConfigError: the token for the publisher cannot be used.
        TokenError: the file of tokens cannot be used.
    """
    path = settings.traffic_manager.token_file
    if path is None:
        yield _TokensHere(settings.data / "tokens.json")
        return
    url, token = settings.event_hub.service_url, read_secret_file(path, TOKEN_KEY).reveal()
    async with open_client(url, token, timeout=10.0, tls=client_tls(settings)) as client:
        seconds = settings.heartbeat_interval_ms / 1000
        yield _AskedPublisher(client, path, settings.data / "broker-users.json", seconds)


async def follow_users(server: NatsServer, users: BrokerUsers) -> None:
    """Let in who has a good token, and cut off who has none any more, until cancelled."""
    trouble = ""
    while True:
        pause = users.seconds
        try:
            if await server.allow(await users.read()):
                pause = max(pause, SETTLE_SECONDS)
            trouble = ""
        except BrokerError as error:
            pause = SETTLE_SECONDS
            tell = _log.debug if str(error) == trouble else _log.warning
            trouble = str(error)
            tell("broker.users_unchanged", reason=trouble)
        await asyncio.sleep(pause)


async def keep_nkeys(path: Path, registry: TokenRegistry) -> None:
    """Write down the keys of nodes whose tokens are older than keys, as they show their tokens."""
    told = False
    while True:
        await asyncio.sleep(NKEY_SECONDS)
        learned = dict(registry.learned)
        if not learned:
            continue
        try:
            await asyncio.to_thread(TokenFile(path).learn, learned)
        except TokenError as error:  # such as a file that is not ours to write
            if not told:
                _log.warning("nkeys_not_kept", reason=str(error), nodes=len(learned))
            told = True
        else:
            for token_id in learned:
                del registry.learned[token_id]


class _TokensHere:
    """The tokens of the publisher whose data folder this is."""

    seconds = LOOK_SECONDS

    def __init__(self, path: Path) -> None:
        if not path.exists():
            _log.info(
                "broker.no_nodes_yet",
                reason=f"{path} is missing: no token was created here yet. Where the publisher has "
                f"another data folder, name a token for it with {TOKEN_KEY}",
            )
        self._registry = TokenRegistry(path)
        self._tokens: tuple[Token, ...] = ()
        self.known: tuple[NodeUser, ...] = ()
        self.known = self._read()

    async def read(self) -> tuple[NodeUser, ...]:
        self.known = self._read()
        return self.known

    def _read(self) -> tuple[NodeUser, ...]:
        tokens = tuple(self._registry.tokens())
        if tokens == self._tokens:
            return self.known
        self._tokens = tokens
        return node_users(tokens)


class _AskedPublisher:
    """A publisher on another machine, and what it said last."""

    def __init__(self, client: HttpClient, token: Path, kept: Path, seconds: float) -> None:
        self._client = client
        self._token = token
        self._kept = kept
        self._tag = ""
        self.seconds = seconds
        self.known = self._last()

    async def read(self) -> tuple[NodeUser, ...]:
        try:
            self._client.renew(read_secret_file(self._token, TOKEN_KEY).reveal())
            headers = {"If-None-Match": self._tag} if self._tag else {}
            answer = await self._client.request("GET", "/v1/broker/users", headers=headers)
            if answer.status == 304:
                return self.known
            known = msgspec.json.decode(answer.body, type=BrokerUsersAnswer).nodes
            if known != self.known:
                write_private_file(self._kept, answer.body)
            self.known, self._tag = known, answer.headers.get("etag", "")
        except _UNTOLD as error:
            raise BrokerError(f"{self._client.url} did not tell the nodes: {error}") from error
        return self.known

    def _last(self) -> tuple[NodeUser, ...]:
        try:
            return msgspec.json.decode(self._kept.read_bytes(), type=BrokerUsersAnswer).nodes
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("broker.users_lost", path=str(self._kept), reason=str(error))
            return ()
