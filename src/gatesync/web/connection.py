"""A connection as strangers may use it: how large a request's head gets, and how slow all of it.

uvicorn has a limit for a connection that rests, and none for one that is busy being slow. So:

    no whole head within `head_seconds`                   the connection ends
    a head of more than `HEAD_BYTES` or `HEADERS_MOST`    431, and it ends
    a body of less than `BYTES_A_SECOND`                  it ends after `body_seconds`
    an answer that is taken as slowly, or not at all      it ends after `answer_seconds`

What ends is that connection and no other: nothing here waits, each limit is a timer of the loop,
and a request that comes in one piece sets none.
"""

import asyncio
from enum import Enum
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gatesync.web.guard import problem_body

__all__ = ["HEADERS_MOST", "HEAD_BYTES", "LimitedConnection"]

HEAD_BYTES: Final = 64 * 1024
HEADERS_MOST: Final = 100
BYTES_A_SECOND: Final = 1024  # who sends or takes less holds the connection rather than uses it


class _Stage(Enum):
    RESTING = "between two requests"
    HEAD = "a request line and headers are awaited"
    BODY = "a body is awaited"


class _HeadTooLargeError(Exception):
    """Ends the parser's work."""


class LimitedConnection(HttpToolsProtocol):
    """One connection of uvicorn's, whose patience has an end. The seconds hold for all of them."""

    head_seconds = 20.0
    body_seconds = 20.0
    answer_seconds = 60.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._stage = _Stage.HEAD
        self._head_bytes = 0  # so far, of a head that is not whole
        self._told_bytes = 0  # of URL and headers, as the parser tells of them
        self._body_bytes = 0  # since the timer was set
        self._too_large = False
        self._patience: asyncio.TimerHandle | None = None  # with who sends
        self._unread: asyncio.TimerHandle | None = None  # with who does not take the answer

    # What the transport tells.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request from now on."""
        super().connection_made(transport)
        self._be_patient()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_patience()
        self._stop_unread()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and see whether it is enough, and not too much."""
        if self._stage is _Stage.RESTING:  # also for a line break, which begins no request
            self._stage = _Stage.HEAD
        if self._stage is _Stage.HEAD:
            self._head_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._stage is _Stage.HEAD and self._head_bytes > HEAD_BYTES:
            self._too_large = True
            self.send_400_response("")
        elif self._stage is not _Stage.RESTING and self._patience is None:
            self._be_patient()

    def pause_writing(self) -> None:
        """An answer waits to be taken."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """It was."""
        self._stop_unread()
        super().resume_writing()

    # What the parser tells.

    def on_message_begin(self) -> None:
        """Look at a head from its beginning."""
        super().on_message_begin()
        self._stage = _Stage.HEAD
        self._told_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request line."""
        self._tell(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._tell(len(name) + len(value) + 4)
        super().on_header(name, value)
        if len(self.headers) > HEADERS_MOST:
            self._too_large = True
            raise _HeadTooLargeError

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._stage = _Stage.BODY
        self._head_bytes = self._body_bytes = 0
        self._stop_patience()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._stage = _Stage.RESTING
        self._stop_patience()
        super().on_message_complete()

    def _tell(self, size: int) -> None:
        self._told_bytes += size
        if self._told_bytes > HEAD_BYTES:
            self._too_large = True
            raise _HeadTooLargeError

    # What ends a connection.

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or has too large a head."""
        if not self._too_large:
            super().send_400_response(msg)
            return
        reason = f"a request's head has at most {HEAD_BYTES} bytes and {HEADERS_MOST} headers"
        body = problem_body("too-large", reason)
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
            b"content-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """End what rested for too long, even where it has not taken its last answer."""
        self._end_unless(good=self.transport.get_write_buffer_size() == 0)
        super().timeout_keep_alive_handler()

    def _be_patient(self) -> None:
        seconds = self.body_seconds if self._stage is _Stage.BODY else self.head_seconds
        self._body_bytes = 0
        self._patience = self.loop.call_later(seconds, self._is_slow)

    def _is_slow(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        answering = cycle is not None and not cycle.response_complete
        in_body = self._stage is _Stage.BODY
        # It is we who do not read on, or who have not answered an earlier request yet.
        ours = self.flow.read_paused or (answering and not in_body)
        fast = in_body and self._body_bytes >= BYTES_A_SECOND * self.body_seconds
        self._be_patient()
        self._end_unless(good=ours or fast)

    def _expect_reading(self) -> None:
        size = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(self.answer_seconds, self._is_unread, size)

    def _is_unread(self, before: int) -> None:
        taken = before - self.transport.get_write_buffer_size()
        self._expect_reading()
        self._end_unless(good=taken >= BYTES_A_SECOND * self.answer_seconds)

    def _end_unless(self, *, good: bool) -> None:
        if not good:
            self.transport.abort()  # to close would wait until it has read

    def _stop_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
