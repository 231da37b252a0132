"""What stands after the ? of a database's URL: each parameter by what it means here.

A parameter is used, or is about how a Java driver works and is passed over, or asks for
something that gatesync does not do, which is a warning, or is not known, which is one too.
"""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from gatesync.config.database_url import DatabaseUrl, Parameter
from gatesync.config.parameter_names import LIBPQ, NOT_DONE, PASSED_OVER, TARGETS, TLS_MODES
from gatesync.config.problems import Invalid
from gatesync.secret import Secret
from gatesync.stores.sql_source import Dialect, SqlSource, Tls, TlsMode

__all__ = ["apply_parameters", "used_names"]

Warn = Callable[[str], None]
Taker = Callable[[str, str], None]

_PASSED_OVER = frozenset(map(str.lower, PASSED_OVER))
_NOT_DONE = {name.lower(): reason for name, reason in NOT_DONE.items()}
_LIBPQ = {name.lower(): keyword for name, keyword in LIBPQ.items()}


def apply_parameters(
    source: SqlSource, url: DatabaseUrl, folder: Path, warn: Warn, *, writes: bool = True
) -> SqlSource:
    """The source with what its URL's parameters say.

    Args:
        source: where to connect; credentials in it stand where the parameters have none.
        url: where the parameters are from.
        folder: where relative paths of certificates begin.
        warn: told of each parameter that is not used, and why.
        writes: of several hosts, one is needed that takes writes.

    Raises `Invalid` when one that is used has a value that cannot be.
    """
    reading = _Reading(url, folder, warn)
    for parameter in url.parameters:
        name = parameter.name.lower()
        if reading.take(name, parameter.value.reveal()) or name in _PASSED_OVER:
            continue
        warn(_unused(parameter, reading.names))
    return reading.applied(source, writes=writes)


def used_names(url: DatabaseUrl) -> tuple[str, ...]:
    """Every parameter that is used in URLs of that kind."""
    return _Reading(url, Path(), lambda _: None).names


class _Reading:
    """Parameters as they are taken, by name in lower case; `applied` makes a source of them."""

    def __init__(self, url: DatabaseUrl, folder: Path, warn: Warn) -> None:
        self._warn = warn
        self._mysql = url.dialect is Dialect.MYSQL
        self._mariadb = url.product == "mariadb"
        self._folder = folder
        self._set: dict[str, Any] = {}
        self._tls: dict[str, Any] = {}
        self._flags: dict[str, bool] = {}
        self._libpq: dict[str, str] = {}
        takers = self._shared() | (self._of_mysql() if self._mysql else self._of_postgresql())
        self.names = tuple(takers)
        self._takers = {name.lower(): taker for name, taker in takers.items()}

    def take(self, name: str, value: str) -> bool:
        """Use a parameter; false when it is none that is used. Raises `Invalid`."""
        taker = self._takers.get(name)
        if taker is None:
            return False
        try:
            taker(name, value)
        except Invalid as error:
            raise Invalid(f"has a parameter {name} that {error}") from None
        return True

    def applied(self, source: SqlSource, *, writes: bool) -> SqlSource:
        """The source with what was taken."""
        mode = self._tls.pop("mode", None) or self._mode_of_flags()
        if mode is not None:
            self._tls["mode"] = mode
        elif self._tls and self._mysql:
            authorities = "authorities" in self._tls
            self._tls["mode"] = TlsMode.VERIFY_CA if authorities else TlsMode.REQUIRE
        if writes and not self._mysql and len(source.hosts) > 1:
            self._libpq.setdefault("target_session_attrs", "read-write")
        return msgspec.structs.replace(source, **self._set, tls=Tls(**self._tls), libpq=self._libpq)

    def _mode_of_flags(self) -> TlsMode | None:
        """What the older, yes-or-no parameters say together, where any of them is given."""
        flags = self._flags
        if not flags:
            return None
        wanted = flags.get("usessl", flags.get("ssl"))
        if wanted is False or flags.get("ssl_disabled"):
            return TlsMode.DISABLE
        if not self._mysql:
            unseen = TlsMode.REQUIRE if flags.get("unseen") else TlsMode.VERIFY_FULL
            return unseen if wanted else None
        if flags.get("ssl_verify_identity") or flags.get("ssl_check_hostname"):
            return TlsMode.VERIFY_FULL
        if self._mariadb and wanted and not flags.get("trustservercertificate"):
            names = not flags.get("disablesslhostnameverification")
            return TlsMode.VERIFY_FULL if names else TlsMode.VERIFY_CA
        if flags.get("verifyservercertificate") or flags.get("ssl_verify_cert"):
            return TlsMode.VERIFY_CA
        # Connector/J goes on in the clear where the server has no TLS, unless requireSSL is
        # given, too. Who wrote useSSL=true wants it, and is told when it cannot be.
        return TlsMode.REQUIRE if wanted or flags.get("requiressl") else None

    def _shared(self) -> dict[str, Taker]:
        return {
            "user": self._credential("username"),
            "username": self._credential("username"),
            "password": self._credential("password"),
            "passwd": self._credential("password"),
            "sslmode": self._tls_mode,
            "ssl": self._flag,
            "sslrootcert": self._file("authorities"),
            "sslcert": self._file("certificate"),
            "sslkey": self._file("key"),
            "sslpassword": self._key_password,
            "connect_timeout": self._seconds("connect_seconds", 1),
            "connectTimeout": self._seconds("connect_seconds", 1000 if self._mysql else 1),
            "socketTimeout": self._seconds("network_seconds", 1000 if self._mysql else 1),
            "characterEncoding": self._encoding,
            "client_encoding": self._encoding,
            "charset": self._encoding,
        }

    def _of_mysql(self) -> dict[str, Taker]:
        flags = (
            "useSSL", "requireSSL", "verifyServerCertificate", "trustServerCertificate",
            "disableSslHostnameVerification", "ssl_disabled", "ssl_verify_cert",
            "ssl_verify_identity", "ssl_check_hostname",
        )  # fmt: skip
        return {
            **dict.fromkeys(flags, self._flag),
            "serverSslCert": self._file("authorities"),
            "ssl_ca": self._file("authorities"),
            "ssl_cert": self._file("certificate"),
            "ssl_key": self._file("key"),
            "ssl_key_password": self._key_password,
            "read_timeout": self._seconds("network_seconds", 1),
            "write_timeout": self._seconds("network_seconds", 1),
            "localSocket": self._text("socket"),
            "unix_socket": self._text("socket"),
            "program_name": self._text("application"),
        }

    def _of_postgresql(self) -> dict[str, Taker]:
        return {
            **dict.fromkeys(LIBPQ, self._pass_on),
            "ApplicationName": self._text("application"),
            "application_name": self._text("application"),
            "currentSchema": self._text("search_path"),
            "host": self._socket_folder,
            "loginTimeout": self._seconds("connect_seconds", 1),
            "sslfactory": self._factory,
            "tcp_user_timeout": self._seconds("network_seconds", 1000),
            "targetServerType": self._target,
            "target_session_attrs": self._target,
        }

    def _credential(self, field: str) -> Taker:
        def take(_: str, value: str) -> None:
            self._set[field] = Secret(value) if field == "password" else value

        return take

    def _text(self, field: str) -> Taker:
        def take(_: str, value: str) -> None:
            self._set[field] = value

        return take

    def _file(self, field: str) -> Taker:
        def take(_: str, value: str) -> None:
            path = value.removeprefix("file:")
            if not path or "\n" in path:
                raise Invalid("must be the path of a PEM file")
            # PostgreSQL's word for the authorities that the system trusts.
            keep = path == "system" and field == "authorities" and not self._mysql
            self._tls[field] = path if keep else str(self._folder / path)

        return take

    def _seconds(self, field: str, per_second: int) -> Taker:
        def take(_: str, value: str) -> None:
            if not (value.isascii() and value.isdecimal() and len(value) <= 9):
                unit = "seconds" if per_second == 1 else "milliseconds"
                raise Invalid(f"must be a whole number of {unit}")
            seconds = -(-int(value) // per_second)
            if seconds:  # 0 is no limit in Java; here it is the default
                self._set[field] = seconds

        return take

    def _flag(self, name: str, value: str) -> None:
        if value.lower() not in {"true", "false", "1", "0", "yes", "no", ""}:
            raise Invalid("must be true or false")
        self._flags[name] = value.lower() not in {"false", "0", "no"}

    def _factory(self, name: str, value: str) -> None:
        if value.endswith("NonValidatingFactory"):
            self._flags["unseen"] = True
        elif not value.endswith(("LibPQFactory", "DefaultJavaSSLFactory")):
            self._warn(f"has a parameter {name}, which is not used: a Java class")

    def _tls_mode(self, _: str, value: str) -> None:
        mode = TLS_MODES.get(value.lower().replace("_", "-"))
        if mode is None:
            raise Invalid("must be one of disable, prefer, require, verify-ca, verify-full")
        self._tls["mode"] = mode

    def _key_password(self, _: str, value: str) -> None:
        self._tls["key_password"] = Secret(value)

    def _encoding(self, _: str, value: str) -> None:
        if value.lower().replace("-", "") not in {"utf8", "utf8mb4", "utf8mb3", "unicode", ""}:
            self._warn("asks for another encoding than UTF-8, which is what is used")

    def _pass_on(self, name: str, value: str) -> None:
        flags = {"true": "random", "false": "disable"}
        balanced = _LIBPQ[name] == "load_balance_hosts"
        self._libpq[_LIBPQ[name]] = flags.get(value.lower(), value) if balanced else value

    def _socket_folder(self, _: str, value: str) -> None:
        if not value.startswith("/"):
            raise Invalid("must be the folder of a socket; a host stands before the database")
        self._set |= {"socket": value, "hosts": ()}

    def _target(self, _: str, value: str) -> None:
        target = TARGETS.get(value.lower())
        if target is None:
            raise Invalid("must be one of any, primary, secondary, preferSecondary")
        self._libpq["target_session_attrs"] = target


def _unused(parameter: Parameter, used: tuple[str, ...]) -> str:
    """Why a parameter is not used, in a sentence."""
    if not parameter.quotable:
        return (
            "has a parameter after the password that is not used; an & of a password must be "
            "percent-escaped (%26), or use the key password"
        )
    reason = _NOT_DONE.get(parameter.name.lower())
    if reason:
        return f"has a parameter {parameter.name}, which is not used: {reason}"
    known = {name.lower(): name for name in (*PASSED_OVER, *NOT_DONE, *used)}
    near = get_close_matches(parameter.name.lower(), known, 1)
    return f"has a parameter {parameter.name[:60]!r} that gatesync does not know" + (
        f"; did you mean {known[near[0]]}?" if near else "; it is not used"
    )
