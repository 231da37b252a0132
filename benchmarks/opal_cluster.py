"""OPAL as its documentation sets it up, in real processes: a server, and clients.

The data comes from a data source over HTTP that this module serves, with one document an entry; or
it comes within the update, which OPAL's documentation calls less recommended, and which is faster.
In OPAL's favour: it has no Open Policy Agent to hand the data to (its own mock store takes it), no
policies to fetch, no TLS, no tokens, and it logs warnings only. Clients report what they have saved
to a callback, which is OPAL's own way to know.
"""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from figures import Peer
from gatesync.artifacts import canonical
from gatesync.web.client import HttpClient, open_client
from parts import artifact_of, free_port, wait_until
from peers import OPAL_VERSION, opal

__all__ = ["PEER", "Opal", "opal_cluster"]

TOPIC: Final = "policy_data"
SECONDS_MOST = 300.0
SERVER: Final = {
    "OPAL_REPO_WATCHER_ENABLED": "false",
    "OPAL_STATISTICS_ENABLED": "false",
    "OPAL_LOG_LEVEL": "WARNING",
}
CLIENT: Final = {
    "OPAL_INLINE_OPA_ENABLED": "false",
    "OPAL_POLICY_STORE_TYPE": "MOCK",
    "OPAL_POLICY_UPDATER_ENABLED": "false",
    "OPAL_SHOULD_REPORT_ON_DATA_UPDATES": "true",
    "OPAL_DATA_TOPICS": TOPIC,
    "OPAL_LOG_LEVEL": "WARNING",
}
PEER: Final = Peer("OPAL", OPAL_VERSION, SERVER | CLIENT)


class Source:
    """The data source, and the callback that clients report to.

    Attributes:
        entries: the addresses of the documents that a client loads when it starts.
        reports: how many updates were reported as saved, since this was last set to 0.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.documents: dict[str, bytes] = {}
        self.entries: list[dict[str, Any]] = []
        self.reports = 0
        self.enough = asyncio.Condition()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests on one connection until it is closed."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1].decode().partition("?")[0]
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                body = await reader.readexactly(int(length or 0))
                writer.write(_response(await self._found(path, body)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _found(self, path: str, body: bytes) -> bytes:
        if path == "/report":
            report = json.loads(body)
            assert all(each["saved"] for each in report["reports"])
            async with self.enough:
                self.reports += 1
                self.enough.notify_all()
            return b"{}"
        if path == "/sources":
            return json.dumps({"entries": self.entries}).encode()
        return self.documents[path]

    async def until_reported(self, count: int) -> None:
        """Wait until so many clients have reported."""
        async with self.enough, asyncio.timeout(SECONDS_MOST):
            await self.enough.wait_for(lambda: self.reports >= count)


def _response(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


class Opal:
    """A server that runs, its data source, and a client that may publish updates."""

    def __init__(self, folder: Path, url: str, source: Source, client: HttpClient) -> None:
        self.source = source
        self._folder = folder
        self._url = url
        self._client = client
        self._stack = ExitStack()

    def load_at_start(self, artifacts: int, size: int, *, one_document: bool = False) -> None:
        """What clients load when they start: a document an artifact, or all in one."""
        source = self.source
        contents = {f"/apis/{n}": canonical.encode(artifact_of(n, size)) for n in range(artifacts)}
        if one_document:
            whole = {path.rpartition("/")[2]: msgspec.Raw(each) for path, each in contents.items()}
            contents = {"/apis": msgspec.json.encode(whole)}
        source.documents = contents
        source.entries = [_entry(source.url, path) for path in contents]

    @contextmanager
    def client(self, name: str) -> "Iterator[subprocess.Popen[bytes]]":
        """Run a client while the block runs."""
        environment = {
            **CLIENT,
            "OPAL_SERVER_URL": self._url,
            "OPAL_CLIENT_API_SERVER_PORT": str(free_port()),
            "OPAL_DEFAULT_UPDATE_CALLBACKS": json.dumps(
                {"callbacks": [f"{self.source.url}/report"]}
            ),
        }
        with _running([opal() / "opal-client", "run"], self._folder, name, environment) as process:
            yield process

    async def publish(
        self, number: int, size: int, edit: int, clients: int, *, inline: bool
    ) -> float:
        """Milliseconds from the request until so many clients have saved it and said so."""
        path = f"/apis/{number}"
        content = canonical.encode(artifact_of(number, size, edit))
        entry = _entry(self.source.url, path)
        if inline:
            entry["data"] = msgspec.Raw(content)
        self.source.documents[path] = content
        self.source.reports = 0
        body = {"entries": [entry], "reason": "bench"}
        began = time.perf_counter()
        await self._client.post("/data/config", body, dict[str, Any])
        await self.source.until_reported(clients)
        return (time.perf_counter() - began) * 1000


def _entry(url: str, path: str) -> dict[str, Any]:
    return {"url": f"{url}{path}", "topics": [TOPIC], "dst_path": path}


@asynccontextmanager
async def opal_cluster(folder: Path) -> AsyncIterator[Opal]:
    """Run a server while the block runs. Raises `MissingPeerError`."""
    programs = opal()
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - before anything runs
    port, source = free_port(), Source(free_port())
    server = await asyncio.start_server(
        source.answer, "127.0.0.1", int(source.url.rpartition(":")[2]), limit=1 << 24
    )
    environment = {
        **SERVER,
        "OPAL_SERVER_PORT": str(port),
        "OPAL_SERVER_BIND_PORT": str(port),
        "OPAL_DATA_CONFIG_SOURCES": json.dumps({"external_source_url": f"{source.url}/sources"}),
    }
    url = f"http://127.0.0.1:{port}"
    async with server:
        with _running([programs / "opal-server", "run"], folder, "server", environment):
            await asyncio.to_thread(wait_until, f"{url}/healthcheck")
            async with open_client(url, "", timeout=60.0) as client:
                yield Opal(folder, url, source, client)


@contextmanager
def _running(
    command: list[Any], folder: Path, name: str, environment: dict[str, str]
) -> "Iterator[subprocess.Popen[bytes]]":
    kept = {each: value for each, value in os.environ.items() if not each.startswith("OPAL_")}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            list(map(str, command)), cwd=folder, env=kept | environment, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
