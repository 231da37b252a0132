"""An HTTP client for gatesync's own services: JSON in and out, a token, time limits.

It stands on httpcore, the engine under httpx: httpx imports rich where that is installed, takes a
quarter of a second to import, and a gateway needs none of what it adds.
"""

import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import httpcore
import msgspec

from gatesync.web.tls import ClientContext, ClientTls
from gatesync.web.tls_trouble import asked_again, tls_trouble

__all__ = [
    "AnsweredError",
    "HttpClient",
    "Response",
    "TlsFailedError",
    "UnreachableError",
    "open_client",
]

IDLE_SECONDS: Final = 60.0  # shorter than the server's keep-alive, so that it never closes first
_NEVER_SENT: Final = (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout)
CONNECT_SECONDS: Final = 5.0  # a host that drops packets is not waited for as long as an answer
_T = TypeVar("_T")


class UnreachableError(Exception):
    """No answer came: the service is down, too slow, or not what the URL says.

    Attributes:
        unsure: the request may have arrived, and nobody knows what became of it.
    """

    def __init__(self, message: str, *, unsure: bool = False) -> None:
        self.unsure = unsure
        super().__init__(message)


class TlsFailedError(UnreachableError):
    """The two sides do not agree on TLS: asking again is of no use until something is changed."""


class AnsweredError(Exception):
    """The service answered, with a status that says no.

    Attributes:
        status: the HTTP status.
        code: the machine-readable word of the answer, or an empty string.
        reasons: what it says is wrong, for people.
        body: the answer's bytes.
        retry_after: seconds after which the service wants to be asked again, if it said so.
    """

    def __init__(self, url: str, status: int, body: bytes, retry_after: int | None = None) -> None:
        try:
            problem = msgspec.json.decode(body, type=_ProblemAnswer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            problem = _ProblemAnswer()
        self.status = status
        self.code = problem.code
        self.reasons = problem.reasons or (f"HTTP status {status}",)
        self.body = body
        self.retry_after = retry_after
        super().__init__(f"{url}: " + "; ".join(self.reasons))


class _ProblemAnswer(msgspec.Struct):
    code: str = ""
    reasons: tuple[str, ...] = ()


class Response(msgspec.Struct, frozen=True):
    """A good answer (status 2xx or 304)."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Requests to one service. Use `open_client`.

    Args:
        url: the service's base URL, without credentials.
        token: sent as a bearer token; never part of an error.
        timeout: seconds for connecting, and for each read and write.
    """

    def __init__(
        self,
        pool: httpcore.AsyncConnectionPool,
        url: str,
        token: str | None,
        timeout: float,
        tls: ClientContext | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._pool = pool
        self._tls = tls
        self._answered = False
        self._timeout = timeout
        self._headers = [("Host", urlsplit(url).netloc), ("Accept", "*/*")]
        self._authorization: list[tuple[str, str]] = []
        self.renew(token)

    @property
    def token(self) -> str:
        """The token that is shown now; empty for none."""
        return self._authorization[0][1].partition(" ")[2] if self._authorization else ""

    def renew(self, token: str | None) -> None:
        """Show this token from the next request on; so do the clients made by `at`."""
        self._authorization[:] = [("Authorization", f"Bearer {token}")] if token else []

    def at(self, url: str) -> "HttpClient":
        """Answer with a client of another service that shares this one's token and connections."""
        other = HttpClient(self._pool, url, None, self._timeout, self._tls)
        other._authorization = self._authorization
        return other

    async def get(self, path: str, answer: type[_T], params: Iterable[tuple[str, Any]] = ()) -> _T:
        """GET a JSON document."""
        response = await self.request("GET", path, params=params)
        return self._decode(path, response.body, answer)

    async def post(
        self,
        path: str,
        body: Any,
        answer: type[_T],
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> _T:
        """POST a JSON document and read one."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        encoded = msgspec.json.encode(body)
        response = await self.request("POST", path, body=encoded, headers=sent, timeout=timeout)
        return self._decode(path, response.body, answer)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Iterable[tuple[str, Any]] = (),
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Send one request and read the whole answer.

        Raises:
            UnreachableError: no answer in time.
            TlsFailedError: the certificate, ours or theirs, or the URL's scheme is to be mended.
            AnsweredError: a status other than 2xx and 304.
        """
        query = urlencode([(key, str(value)) for key, value in params], quote_via=quote)
        url = f"{self.url}{path}" + (f"?{query}" if query else "")
        seconds = timeout or self._timeout
        connect = min(seconds, CONNECT_SECONDS)
        limits = dict.fromkeys(("read", "write", "pool"), seconds) | {"connect": connect}
        sent = [*self._headers, *self._authorization, *(headers or {}).items()]
        if body or method != "GET":
            sent.append(("Content-Length", str(len(body))))
        if self._tls is not None:
            self._tls.renew()
        try:
            response = await self._pool.request(
                method, url, headers=sent, content=body, extensions={"timeout": limits}
            )
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError) as error:
            if trouble := tls_trouble(error) or await self._silent_trouble(error):
                raise TlsFailedError(f"{self.url} cannot be used: {trouble}") from error
            said = f"{self.url} cannot be reached: {_said(error)}"
            raise UnreachableError(said, unsure=not isinstance(error, _NEVER_SENT)) from error
        except AttributeError as error:
            # anyio, asked for a socket's attributes after its transport was closed in between.
            said = f"{self.url} closed the connection while it was being made"
            raise UnreachableError(said, unsure=True) from error
        except httpcore.ConnectTimeout as error:
            raise UnreachableError(
                f"{self.url} cannot be reached: no connection within {connect:g} s"
            ) from error
        except httpcore.TimeoutException as error:
            said = f"{self.url} did not answer in {seconds:g} s"
            raise UnreachableError(said, unsure=not isinstance(error, _NEVER_SENT)) from error
        self._answered = True
        found = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in response.headers}
        if not (200 <= response.status < 300 or response.status == 304):
            wait = found.get("retry-after", "")  # a date, which HTTP allows, too, is not looked at
            later = int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 10 else None
            raise AnsweredError(f"{self.url}{path}", response.status, response.content, later)
        return Response(response.status, found, response.content)

    async def _silent_trouble(self, error: Exception) -> str | None:
        """Why a connection was closed without a word, if that is about TLS; once it worked, no."""
        silent = isinstance(error, httpcore.ReadError | httpcore.WriteError) or (
            isinstance(error, httpcore.RemoteProtocolError) and "without sending" in str(error)
        )
        if self._answered or not silent:
            return None
        if self._tls is None:
            return await asked_again(self.url, None)
        shown = self._tls.files.client_certificate is not None
        return await asked_again(self.url, self._tls.context, shown=shown)

    def _decode(self, path: str, body: bytes, answer: type[_T]) -> _T:
        try:
            return msgspec.json.decode(body, type=answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UnreachableError(
                f"{self.url}{path} gave an answer that gatesync cannot read: {error}"
            ) from None


@asynccontextmanager
async def open_client(
    url: str,
    token: str | None = None,
    *,
    timeout: float = 10.0,
    tls: ClientTls | None = None,
) -> AsyncIterator[HttpClient]:
    """Open a client with a small pool of kept connections.

    Args:
        url: the service's base URL.
        token: to show it.
        timeout: seconds for connecting, and for each read and write.
        tls: whom to trust and who we are, with `https://`; the system's authorities without.

    Raises:
        ValueError: the URL is not `http://` or `https://` with a host and nothing secret in it,
            or the token holds what no header can.
        TlsFileError: one of the files of `tls` cannot be used. It is a `ValueError`, too.
    """
    if any(each in url for each in "@?#"):  # it may be a token: the URL is not repeated
        raise ValueError(
            "the URL of a service holds no user, password, '?' or '#'; write https://HOST:PORT, "
            "and give a token with GATESYNC_TOKEN, where no log and no process list shows it"
        )
    if not _is_service(url):
        raise ValueError(f"{url!r} is not a URL of a service; write http://HOST:PORT")
    if token and not (token.isascii() and token.isprintable()):
        raise ValueError("the token holds a line break or a letter that no token has; copy it anew")
    encrypted = tls is not None or urlsplit(url).scheme == "https"
    checked = ClientContext(tls or ClientTls()) if encrypted else None
    async with httpcore.AsyncConnectionPool(
        ssl_context=checked.context if checked is not None else None,
        max_connections=8,
        max_keepalive_connections=4,
        keepalive_expiry=IDLE_SECONDS,
        retries=0,
    ) as pool:
        yield HttpClient(pool, url, token, timeout, checked)


def _is_service(url: str) -> bool:
    try:
        parsed = urlsplit(url)
        known = parsed.scheme in {"http", "https"} and bool(parsed.hostname) and parsed.port != 0
    except ValueError:  # such as a port of 99999
        return False
    return known and url.isascii() and url.isprintable() and " " not in url


def _said(error: BaseException) -> str:
    return str(error) or str(error.__cause__ or "") or type(error).__name__
