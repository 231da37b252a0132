"""A Git server that speaks smart HTTP, for tests: git's own `http-backend` behind a small server.

It asks for a name and a password where it is given one, and can be told to misbehave: to say
nothing, to be too busy, to fail, and to cut the connection in the middle of an answer.
"""

import base64
import os
import shutil
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import pytest

from tests.servers.gatesync import TIMEOUT

CHUNK_BYTES: Final = 64 * 1024
BEGIN_BYTES: Final = 64  # of a body, in which a fetch says that it is one
# Nothing of whoever runs the tests, and no work in the background.
_CONFIG: Final = "[gc]\n\tauto = 0\n[receive]\n\tautogc = false\n[init]\n\tdefaultBranch = main\n"
_PASSED: Final = {
    "Content-Type": "CONTENT_TYPE",
    "Content-Encoding": "HTTP_CONTENT_ENCODING",
    "Git-Protocol": "GIT_PROTOCOL",
}


class Fault(Enum):
    """What becomes of a request."""

    HANG = "hang"  # it is taken, and nothing is said
    BUSY = "busy"  # 429, with Retry-After
    FAIL = "fail"  # 500
    CUT = "cut"  # a part of the answer, then the connection ends
    SWALLOW = "swallow"  # the server does it, and the answer is lost


class Asked(NamedTuple):
    """A request that came, and whether it is answered as it should be."""

    method: str
    path: str  # with the query
    good: bool


class GitHttp(ThreadingHTTPServer):
    """Serves the bare repositories in `folder`. Use `git_http`."""

    daemon_threads = True

    def __init__(self, folder: Path, login: tuple[str, str] | None, tls: ssl.SSLContext | None):
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.folder = folder
        self.login = login
        self.asked: list[Asked] = []
        self.retry_after = 1
        self.cut_at = 0.5  # of the whole answer
        self._scheme = "http" if tls is None else "https"
        self._home = folder / ".home"
        self._home.mkdir(exist_ok=True)
        (self._home / ".gitconfig").write_text(_CONFIG)
        self._fault: tuple[Fault, str] | None = None
        self._left = 0
        self._lock = threading.Lock()
        self._well = threading.Event()
        self._well.set()

    @property
    def environment(self) -> dict[str, str]:
        """Of the server's git."""
        path = {"PATH": os.environ.get("PATH", os.defpath)}
        return path | {"HOME": str(self._home), "GIT_CONFIG_NOSYSTEM": "1"}

    def create(self, name: str = "apis.git") -> str:
        """Make an empty bare repository; answers with its URL."""
        command = ["git", "init", "--quiet", "--bare", str(self.folder / name)]
        subprocess.run(command, check=True, env=self.environment, timeout=TIMEOUT)
        if self.login is None:  # else whoever has logged in may push
            with (self.folder / name / "config").open("a") as config:
                config.write("[http]\n\treceivepack = true\n")
        return self.url(name)

    def url(self, name: str = "apis.git") -> str:
        """Of a repository, without any login."""
        return f"{self._scheme}://127.0.0.1:{self.server_port}/{name}"

    @contextmanager
    def misbehaving(self, fault: Fault, where: str = "", times: int = 1_000_000) -> Iterator[None]:
        """Do this to the next requests that hold `where` in their path or its query.

        Or where their body begins: `command=fetch` is who wants a pack.
        """
        with self._lock:
            self._fault, self._left = (fault, where), times
            self._well.clear()
        try:
            yield
        finally:
            with self._lock:
                self._fault = None
            self._well.set()

    def takes_fault(self, begin: str) -> Fault | None:
        """What is to become of a request that begins like this."""
        with self._lock:
            if self._fault is None or self._fault[1] not in begin or not self._left:
                return None
            self._left -= 1
            return self._fault[0]

    def hang(self) -> None:
        """Returns once the server behaves again."""
        self._well.wait()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silence: a client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: GitHttp
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        with tempfile.TemporaryFile() as body:
            self._read_body(body)
            body.seek(0)
            begin = body.read(BEGIN_BYTES).decode("latin-1")
            fault = self.server.takes_fault(f"{self.path}\n{begin}")
            good = fault is None and self._is_let_in()
            self.server.asked.append(Asked(self.command, self.path, good))
            if fault is Fault.HANG:
                self.server.hang()
                self.close_connection = True
            elif fault is Fault.BUSY:
                self._say(429, {"Retry-After": str(self.server.retry_after)})
            elif fault is Fault.FAIL:
                self._say(500)
            elif not self._is_let_in():
                self._say(401, {"WWW-Authenticate": 'Basic realm="apis"'})
            else:
                self._run(body, fault)

    def _is_let_in(self) -> bool:
        if self.server.login is None:
            return True
        expected = base64.b64encode(":".join(self.server.login).encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _say(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def _read_body(self, body: IO[bytes]) -> None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                body.write(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers.get("Content-Length", 0))
            while left and (chunk := self.rfile.read(min(left, CHUNK_BYTES))):
                body.write(chunk)
                left -= len(chunk)

    def _run(self, body: IO[bytes], fault: Fault | None) -> None:
        """Have git answer, and pass that on as the fault says."""
        path, _, query = self.path.partition("?")
        environment = self.server.environment | {
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_LENGTH": str(body.seek(0, os.SEEK_END)),
            "REMOTE_ADDR": self.client_address[0],
        }
        environment |= {
            name: self.headers[header] for header, name in _PASSED.items() if header in self.headers
        }
        if self.server.login is not None:
            environment["REMOTE_USER"] = self.server.login[0]
        body.seek(0)
        with subprocess.Popen(
            ["git", "http-backend"], stdin=body, stdout=subprocess.PIPE, env=environment
        ) as process:
            assert process.stdout is not None
            try:
                self._pass_on(process.stdout, fault)
            except OSError:  # the client went away; so git is told
                self.close_connection = True

    def _pass_on(self, answer: IO[bytes], fault: Fault | None) -> None:
        status, headers = 200, []
        while line := answer.readline().strip():
            name, _, value = line.decode().partition(": ")
            if name == "Status":
                status = int(value.split()[0])
            else:
                headers.append((name, value))
        if fault is not None:
            self.close_connection = True
        if fault is Fault.SWALLOW:
            answer.read()
            return
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if fault is Fault.CUT:
            whole = answer.read()
            part = whole[: int(len(whole) * self.server.cut_at)]
            self.wfile.write(b"%x\r\n%s" % (len(whole), part))
            return
        while chunk := answer.read(CHUNK_BYTES):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        """Silence: tests tell what matters."""


@contextmanager
def git_http(
    folder: Path, *, login: tuple[str, str] | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[GitHttp]:
    """Serve what is in this folder, which is made, while the block runs.

    Args:
        folder: of the bare repositories.
        login: name and password of the one user, who may push; without one anybody may.
        tls: for https, with the server's certificate in it.
    """
    if shutil.which("git") is None:
        pytest.skip("needs git: apt-get install git")
    folder.mkdir(parents=True, exist_ok=True)
    server = GitHttp(folder.resolve(), login, tls)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
