"""Telling publishers how rsync's workers are: each of them, and none may hold up the work."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import structlog

from gatesync.cli.certificates import client_tls
from gatesync.cli.session import CLIENT_FILE, Target, find_target
from gatesync.config import Loaded
from gatesync.config.secret import read_secret_file
from gatesync.publisher.workers import WorkersAnswer, WorkersReport
from gatesync.web.client import AnsweredError, HttpClient, UnreachableError, open_client

__all__ = ["Reporter", "open_reporter", "reporting_target"]

REPORT_SECONDS: Final = 10.0  # for one report to one publisher
_SERVICE_URL: Final = "apim.event_hub.service_url"
TOKEN_KEY: Final = "gatesync.gateway.token_file"  # noqa: S105 - the name of a key

_log: Final = structlog.get_logger("gatesync.rsync")


class Reporter:
    """Reports to publishers. Use `open_reporter`."""

    def __init__(self, clients: Sequence[HttpClient]) -> None:
        self._clients = clients
        self._trouble: dict[str, str] = {}

    @property
    def has_publishers(self) -> bool:
        """Whether anybody is told at all."""
        return bool(self._clients)

    async def send(self, report: WorkersReport) -> None:
        """Tell each publisher; one that does not take it is told of once, until it does."""
        async with asyncio.TaskGroup() as tasks:
            for client in self._clients:
                tasks.create_task(self._send(client, report))

    async def _send(self, client: HttpClient, report: WorkersReport) -> None:
        trouble = ""
        try:
            async with asyncio.timeout(REPORT_SECONDS):
                await client.post("/v1/workers", report, WorkersAnswer)
        except TimeoutError:
            trouble = f"{client.url} did not answer within {REPORT_SECONDS:g} s"
        except (AnsweredError, UnreachableError) as error:
            trouble = str(error)
        if trouble and trouble != self._trouble.get(client.url):
            _log.warning("a publisher has no receipts of the workers", reason=trouble)
        if not trouble and self._trouble.get(client.url):
            _log.info("a publisher has receipts of the workers again", publisher=client.url)
        self._trouble[client.url] = trouble


def reporting_target(publishers: Sequence[str] | None, loaded: Loaded) -> Target | None:
    """The publishers that were named, or None.

    By options, by the environment, by the `client.toml` of this folder, or as a gateway's
    `service_url`, in that order; in the last case with the node's own token.

    Raises `CommandError` and `ConfigError` for what was named and cannot be used.
    """
    if publishers or os.environ.get("GATESYNC_PUBLISHER") or CLIENT_FILE.exists():
        return find_target(publishers)
    settings = loaded.settings
    named = any(each.key == _SERVICE_URL and not each.origin for each in loaded.entries)
    if not named:
        return None
    token = settings.gateway.token
    path = settings.gateway.token_file or settings.data / "gateway.token"
    if token is None and path.exists():
        token = read_secret_file(path, TOKEN_KEY)
    return Target((settings.event_hub.service_url,), token, client_tls(settings))


@asynccontextmanager
async def open_reporter(target: Target | None) -> AsyncIterator[Reporter]:
    """Open the connections, if there is anybody to tell. Raises `ValueError` for what is no URL."""
    async with AsyncExitStack() as stack:
        clients: list[HttpClient] = []
        if target is not None:
            token = target.token.reveal() if target.token else None
            for url in target.urls:
                opened = open_client(url, token, timeout=REPORT_SECONDS, tls=target.tls)
                clients.append(await stack.enter_async_context(opened))
        yield Reporter(clients)
