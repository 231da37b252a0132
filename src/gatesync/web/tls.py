"""Certificates in PEM files, and the contexts made of them, which take renewed files by themselves.

    context = ServerContext(ServerTls(certificate, key))   # raises TlsFileError, naming the file
    context.renew()       # the files changed: from now on, new handshakes use the new ones

TLS 1.2 is the least that is spoken. Connections that are open keep what they began with, and a
new file that cannot be used changes nothing.
"""

import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from gatesync.web.tls_files import ClientTls, ServerTls

__all__ = ["ClientContext", "ClientTls", "ServerContext", "ServerTls", "TlsFileError"]

LOOK_SECONDS: Final = 1.0  # between two looks at the files

_Stamps = tuple[tuple[int, int, int] | None, ...]

_log = structlog.get_logger("gatesync.tls")


class TlsFileError(ValueError):
    """A file cannot be used. `key` says which: the field of `ServerTls` or `ClientTls`."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class ServerContext:
    """What a server's handshakes are made with: always the newest files that could be used.

    Attributes:
        context: to listen with, for as long as the server runs.

    Raises:
        TlsFileError: a file is missing, broken, or a key that others can read.
    """

    def __init__(self, files: ServerTls) -> None:
        self.files = files
        self._changes = _Changes((files.certificate, files.key, files.client_ca))
        self._newest = _server_context(files)
        self.context = _server_context(files)
        # A context of its own for each set of files: an authority that was taken out of
        # `client_ca` is not believed any longer, which adding to one context could not do.
        self.context.sni_callback = self._take_newest

    def renew(self) -> bool:
        """Look at the files, and take them where they changed; whether they were taken."""
        return self._changes.taken(self._read)

    def _read(self) -> None:
        self._newest = _server_context(self.files)

    def _take_newest(
        self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        connection.context = self._newest


class ClientContext:
    """What a client connects with. `renew` is asked before requests, and looks once a second.

    Renewed files are taken for new connections. An authority is added to those that are trusted;
    one that was taken out of the file is trusted until the process ends.

    Raises:
        TlsFileError: a file is missing, broken, or a key that others can read.
    """

    def __init__(self, files: ClientTls, clock: Callable[[], float] = time.monotonic) -> None:
        self.files = files
        self._clock = clock
        self._looked = clock()
        self._changes = _Changes((files.ca, files.client_certificate, files.client_key))
        _client_context(files)  # all of them can be used
        self.context = _client_context(files)

    def renew(self) -> None:
        """Take files that changed."""
        if self._clock() - self._looked >= LOOK_SECONDS:
            self._looked = self._clock()
            self._changes.taken(self._read)

    def _read(self) -> None:
        _client_context(self.files)  # before anything is changed
        _load_client(self.context, self.files)


class _Changes:
    """Notices that files are others than those that were taken; tells of broken ones once."""

    def __init__(self, paths: tuple[Path | None, ...]) -> None:
        self._paths = tuple(path for path in paths if path is not None)
        self._seen = self._doubted = self._told = self._stamps()

    def taken(self, read: Callable[[], None]) -> bool:
        now = self._stamps()  # before they are read: what changes meanwhile is seen next time
        if now == self._seen:
            return False
        try:
            read()
        except TlsFileError as error:
            # A certificate that came before its key is not worth a word until the next look.
            if now == self._doubted and now != self._told:
                self._told = now
                _log.error("tls.not_renewed", reason=str(error), still_used="the files before")
            self._doubted = now
            return False
        self._seen = now
        _log.info("tls.renewed", files=[str(path) for path in self._paths])
        return True

    def _stamps(self) -> _Stamps:
        return tuple(map(_stamp, self._paths))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _server_context(files: ServerTls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0  # connections are kept; a session never outlives its certificates
    _load_pair(context, files.certificate, files.key, "certificate", "key")
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authorities(context, files.client_ca, "client_ca")
    return context


def _client_context(files: ClientTls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the certificate and its host
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_client(context, files)
    return context


def _load_client(context: ssl.SSLContext, files: ClientTls) -> None:
    if files.ca is None:
        context.load_default_certs()
    else:
        _load_authorities(context, files.ca, "ca")
    if files.client_certificate is not None and files.client_key is not None:
        certificate, key = files.client_certificate, files.client_key
        _load_pair(context, certificate, key, "client_certificate", "client_key")


def _load_authorities(context: ssl.SSLContext, path: Path, field: str) -> None:
    _check_readable(path, field)
    try:
        context.load_verify_locations(cafile=path)
    except (ssl.SSLError, ValueError):
        raise TlsFileError(f"{path}: holds no certificate in PEM form", field) from None


def _load_pair(
    context: ssl.SSLContext, certificate: Path, key: Path, field: str, key_field: str
) -> None:
    _check_readable(certificate, field)
    _check_readable(key, key_field)
    mode = stat.S_IMODE(key.stat().st_mode)
    if mode & 0o077:
        raise TlsFileError(
            f"{key}: others can access it (mode {mode:04o}); run chmod 600 on it", key_field
        )
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or "it is not in PEM form"
        raise TlsFileError(
            f"{key}: is no key of the certificate {certificate}, or wants a passphrase ({reason})",
            key_field,
        ) from None


def _no_passphrase() -> str:
    return ""  # without it OpenSSL would ask at the terminal


def _check_readable(path: Path, field: str) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise TlsFileError(f"{path}: cannot be read: {error.strerror}", field) from None
