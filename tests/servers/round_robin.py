"""One URL in front of several servers, as a load balancer is: each request goes to the next.

A server that refuses the connection is passed over.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

from tests.servers.gatesync import Answer, ask

PASSED_ON: Final = ("Authorization", "Content-Type", "Content-Encoding", "Idempotency-Key")
HELD_BACK: Final = ("connection", "content-length", "transfer-encoding", "server", "date")


class RoundRobin(ThreadingHTTPServer):
    """Counts in `passed` how many requests each server was given.

    While it `swallows`, a server does what it is asked, and the answer is lost on the way back.
    """

    daemon_threads = True
    swallows = False

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.serve(urls)

    def serve(self, urls: Sequence[str]) -> None:
        """Stand in front of these from now on."""
        self.passed = dict.fromkeys(urls, 0)
        self._turns = itertools.cycle(urls)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def pass_on(self, method: str, path: str, body: bytes | None, headers: Any) -> Answer:
        """Ask the next server; raises `OSError` where none of them can be reached."""
        for url in itertools.islice(self._turns, len(self.passed)):
            try:
                answer = ask(url, path, method=method, body=body, headers=headers)
            except OSError:
                continue
            self.passed[url] += 1
            return answer
        raise ConnectionRefusedError("no server is there")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silence: a client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: RoundRobin
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._pass_on(None)

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _pass_on(self, body: bytes | None) -> None:
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        try:
            answer = self.server.pass_on(self.command, self.path, body, headers)
        except OSError:
            self.send_error(502)
            return
        if self.server.swallows:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name not in HELD_BACK:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: Any) -> None:
        """Silence: tests tell what matters."""


@contextmanager
def round_robin(*urls: str) -> Iterator[RoundRobin]:
    """A balancer in front of these while the block runs."""
    server = RoundRobin(urls)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
