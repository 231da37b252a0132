"""The embedded broker: a nats-server that lives and dies with this process.

    async with run_nats_server(data, port=4222) as server:
        ...  # it listens at server.connect_url; when it dies it is started again

Its configuration, log and standard error are in `<data>/broker`, the publishers' password in
`<data>/broker-credentials.json`. Publishers may publish announcements and subscribe to reports.
Each node may subscribe to its labels and publish its own reports (promise 8); `allow` says which
nodes there are, while it runs. Nobody may do anything else.
"""

import asyncio
import contextlib
import random
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from gatesync.events.nats_config import MAX_PAYLOAD
from gatesync.events.nats_credentials import BrokerCredentials, BrokerError
from gatesync.events.nats_process import BrokerFiles, end, find_binary, prepare, spawn
from gatesync.events.nats_users import NodeUser
from gatesync.web.tls import LOOK_SECONDS, ServerContext, ServerTls

__all__ = ["NatsServer", "run_nats_server"]

RELOAD_TIMEOUT: Final = 10.0  # seconds; it takes 100 ms with 1,000 nodes
READY_TIMEOUT: Final = 10.0  # seconds; it takes 20 ms
STOP_TIMEOUT: Final = 5.0  # seconds between SIGTERM and SIGKILL
RETRY_FIRST: Final = 0.1  # seconds; the first restart is made at once
RETRY_LONGEST: Final = 10.0  # seconds
# From the beginning of the line: further behind may stand what a client called itself.
_LINE: Final = r"(?m)^\[\d+\] \S+ \S+ "
_RELOADED: Final = re.compile(_LINE + r"\[INF\] Reloaded server configuration")
_NOT_RELOADED: Final = re.compile(_LINE + r"\[ERR\] Failed to reload server configuration(.*)")
SETTLED: Final = 5.0  # seconds; one that dies sooner is no reason to hurry

log = structlog.get_logger(__name__)


@asynccontextmanager
async def run_nats_server(
    data: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 4222,
    binary: Path | None = None,
    max_payload: int = MAX_PAYLOAD,
    nodes: Iterable[NodeUser] = (),
    tls: ServerTls | None = None,
    look_seconds: float = LOOK_SECONDS,
    jitter: Callable[[], float] = random.random,
) -> AsyncIterator["NatsServer"]:
    """Run a broker for as long as the block runs; it listens when the block begins.

    Args:
        data: the folder for what it keeps; made if it is missing.
        host: the address to listen at.
        port: 0 takes a free one, and keeps it over restarts.
        binary: the nats-server to run; by default the one that came with `gatesync[broker]`,
            else the first on PATH.
        max_payload: bytes of one message.
        nodes: who may connect, beside publishers, until `allow` says otherwise.
        tls: its certificate and key; clients must use TLS then. Renewed files are taken for new
            connections, and the open ones stay.
        look_seconds: between two looks at those files.
        jitter: numbers of [0, 1), for the time between restarts.

    Raises:
        TlsFileError: a file of `tls` cannot be used.
        BrokerError: no binary, the port is taken, or it does not start. Once it has run, it is
            started again whatever happens, and each failure is logged.
    """
    context = ServerContext(tls) if tls is not None else None
    server = NatsServer(data, host, port, find_binary(binary), max_payload, jitter, tls, nodes)
    tasks: list[asyncio.Task[None]] = []
    try:
        await server.start()
        tasks.append(asyncio.create_task(server.watch(), name="nats-server"))
        if context is not None:
            renewing = server.renew_certificates(context, look_seconds)
            tasks.append(asyncio.create_task(renewing, name="nats-server certificates"))
        yield server
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await server.stop()
        for task in tasks:
            if not task.cancelled():
                task.result()


class NatsServer:
    """The process, and what is known about it."""

    def __init__(
        self,
        data: Path,
        host: str,
        port: int,
        binary: Path,
        max_payload: int,
        jitter: Callable[[], float],
        tls: ServerTls | None = None,
        nodes: Iterable[NodeUser] = (),
    ) -> None:
        self._files = BrokerFiles(data)
        self._host = host
        self._port = port
        self._binary = binary
        self._max_payload = max_payload
        self._jitter = jitter
        self._tls = tls
        self._process: asyncio.subprocess.Process | None = None
        self._credentials: BrokerCredentials | None = None
        self._nodes = self._allowed = tuple(nodes)  # what it shall know, and what it knows
        self._reloading = asyncio.Lock()
        self._mark = 0  # where in the log this start began
        self.starts = 0
        self.ready = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Of the process that runs now, if any."""
        return self._process.pid if self._process is not None else None

    @property
    def connect_url(self) -> str:
        """Where to connect; without credentials."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
        scheme = "nats" if self._tls is None else "tls"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self._port}"

    @property
    def credentials(self) -> BrokerCredentials:
        """Of its users. Only once it was started."""
        assert self._credentials is not None
        return self._credentials

    async def start(self) -> None:
        """Start the process and wait until it listens. Raises `BrokerError` when it does not."""
        # Not in a thread: a cancelled one would go on writing beside the next start.
        self._credentials = prepare(self._files)
        self._configure()
        nodes = self._nodes
        self._mark = mark = self._files.mark()
        self._process = process = await spawn(self._binary, self._files)
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                self._port = await self._listening(process, mark)
        except TimeoutError:
            await self.stop()
            raise BrokerError(
                f"{self._binary} did not listen at {self._host}:{self._port} within "
                f"{READY_TIMEOUT:g} s: {self._files.last_words(mark)}"
            ) from None
        except BaseException:
            await self.stop()
            raise
        self._allowed = nodes
        self.starts += 1
        self.ready.set()
        log.info("broker.listening", url=self.connect_url, pid=process.pid)

    async def allow(self, nodes: Iterable[NodeUser]) -> bool:
        """Let these nodes in from now on, and cut off who is none of them; all others stay.

        Returns once the broker has taken it, with whether there was a change. Raises `BrokerError`
        when it has not: who asks again with the same nodes has it tried again.
        """
        self._nodes = wanted = tuple(nodes)  # a broker that dies now starts with these
        await self.ready.wait()
        if wanted == self._allowed:
            return False
        self._configure()
        await self._reload()
        self._allowed = wanted
        log.info("broker.users", nodes=len({each.node for each in wanted}), keys=len(wanted))
        return True

    async def watch(self) -> None:
        """Start it again whenever it dies, until cancelled."""
        failures = 0
        while True:
            began = asyncio.get_running_loop().time()
            reason = await self._death()
            if asyncio.get_running_loop().time() - began > SETTLED:
                failures = 0
            log.error("broker.died", reason=reason, last_words=self._files.last_words(self._mark))
            while self._process is None:
                if failures:
                    delay = min(RETRY_LONGEST, RETRY_FIRST * 2.0 ** min(failures - 1, 10))
                    await asyncio.sleep(delay * (0.5 + 0.5 * self._jitter()))
                failures += 1
                try:
                    await self.start()
                except (BrokerError, OSError) as error:
                    log.error(  # noqa: TRY400 - the reason says it all
                        "broker.restart_failed", reason=str(error), attempt=failures
                    )

    async def renew_certificates(self, context: ServerContext, look_seconds: float) -> None:
        """Have the process read its certificate again whenever that was renewed.

        It is told of files only that can be used; it keeps its connections.
        """
        while True:
            await asyncio.sleep(look_seconds)
            if context.renew():
                try:
                    await self.ready.wait()
                    await self._reload()
                except BrokerError as error:
                    log.error("broker.certificate_not_taken", reason=str(error))  # noqa: TRY400 - the reason says it all

    async def stop(self) -> None:
        """End the process: SIGTERM, and SIGKILL when it does not go."""
        process, self._process = self._process, None
        self.ready.clear()
        if process is not None:
            await end(process, STOP_TIMEOUT)

    def _configure(self) -> None:
        try:
            self._files.configure(
                self.credentials,
                self._nodes,
                host=self._host,
                port=self._port,
                max_payload=self._max_payload,
                tls=self._tls,
            )
        except OSError as error:
            raise BrokerError(f"{self._files.config} cannot be written: {error}") from None

    async def _reload(self) -> None:
        """Have the process read its configuration again. Raises `BrokerError` when it does not."""
        async with self._reloading:  # its log says what became of the last one
            process, mark = self._process, self._files.mark()
            if process is None or not self.ready.is_set():  # it reads it when it starts
                return
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGHUP)
            try:
                async with asyncio.timeout(RELOAD_TIMEOUT):
                    while not _RELOADED.search(said := self._files.said(mark)):
                        if process.returncode is not None:
                            return
                        if failed := _NOT_RELOADED.search(said):
                            raise BrokerError(
                                f"the broker did not take {self._files.config}{failed[1]}"
                            )
                        await asyncio.sleep(0.01)
            except TimeoutError:
                raise BrokerError(
                    f"the broker did not read {self._files.config} within {RELOAD_TIMEOUT:g} s: "
                    f"{self._files.last_words(mark)}"
                ) from None

    async def _death(self) -> str:
        assert self._process is not None
        code = await self._process.wait()
        self._process = None
        self.ready.clear()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    async def _listening(self, process: asyncio.subprocess.Process, mark: int) -> int:
        """The port, once this very process listens there; it tells by a file with its pid."""
        while (port := self._files.port_of(process.pid)) is None:
            if process.returncode is not None:
                raise self._start_failure(process.returncode, mark)
            await asyncio.sleep(0.005)
        return port

    def _start_failure(self, code: int, mark: int) -> BrokerError:
        words = self._files.last_words(mark)
        if "address already in use" in words:
            return BrokerError(
                f"port {self._port} of {self._host} is taken by another process; stop that one, "
                "or give the broker another port"
            )
        return BrokerError(f"{self._binary} ended with code {code} instead of listening: {words}")
