"""`[database.sync_runtime_artifacts_db]`, else `[database.apim_db]`: where artifacts rest."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

import msgspec

from gatesync.config import kinds
from gatesync.config.addresses import is_loopback
from gatesync.config.database_parameters import apply_parameters
from gatesync.config.database_url import DIALECTS, UNKNOWN, UNSERVED, kind_of, parse_database_url
from gatesync.config.pool_options import read_pool
from gatesync.config.positions import dotted
from gatesync.config.problems import ConfigProblem, Invalid
from gatesync.config.reader import Reader, Section
from gatesync.config.settings import DatabaseSettings
from gatesync.secret import SecretUrl
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_source import Dialect, SqlSource, TlsMode

__all__ = ["read_database"]

OWN = "database.sync_runtime_artifacts_db"
PACKS = "database.apim_db"
_SERVED = "mysql, mariadb, postgresql, sqlite"


def read_database(reader: Reader, data: Path, folder: Path) -> DatabaseSettings:
    """The database that the file names, else SQLite in the data folder.

    `[database.apim_db]` is WSO2's own, and stands in each pack's file, a gateway's too. So what
    cannot be used in it is a warning here, and an error for who opens the database.
    """
    own = reader.lookup(tuple(OWN.split("."))) is not None
    packs = reader.lookup(tuple(PACKS.split("."))) is not None and not own
    table = _Table(reader.section(PACKS if packs else OWN), is_own=not packs, folder=folder)
    section = table.section
    url = section.optional("url", kinds.database_url)
    read_url = section.optional("read_url", kinds.database_url)
    sort = section.derived(
        "type",
        kinds.text,
        kind_of(url.reveal()) if url else "sqlite",
        "from the url" if url else "embedded",
    ).lower()
    username = section.optional("username", kinds.any_text)
    password = section.optional("password", kinds.password)
    driver = section.read("driver", kinds.any_text, "", also="driverClassName") or None
    options = section.read("pool_options", kinds.scalars, {})
    login = SqlSource(
        dialect=Dialect.SQLITE, database="", username=username or None, password=password
    )
    source = table.source(sort, url, login, data / "artifacts.db")
    return DatabaseSettings(
        key=dotted(section.path),
        type=sort,
        url=url,
        username=username,
        password=password,
        driver=driver,
        pool_options=options,
        read_url=read_url,
        source=source,
        read_source=table.read_source(source, read_url, login),
        options=table.options(options),
        refusal=table.refusal,
    )


class _Table:
    """One of the two tables, with the first reason why its database cannot be opened."""

    def __init__(self, section: Section, *, is_own: bool, folder: Path) -> None:
        self.section = section
        self.refusal: ConfigProblem | None = None
        self._is_own = is_own
        self._folder = folder

    def source(
        self, sort: str, url: SecretUrl | None, login: SqlSource, embedded: Path
    ) -> SqlSource | None:
        """The database of `url`, or the embedded one; None when it cannot be."""
        dialect = DIALECTS.get(sort)
        given = self.section.reader.lookup(self.section.place("type")) is not None
        if url is not None and (dialect is not None or (sort == UNKNOWN and not given)):
            return self._parsed("url", url, login, dialect, f'and type says "{sort}"')
        if dialect is None:
            self._refuse("type" if given else "url", _unserved(sort))
        elif dialect is Dialect.SQLITE:
            return SqlSource.sqlite(embedded)
        else:
            self._refuse(
                "url", f'is missing; type "{sort}" needs jdbc:{dialect}://HOST:PORT/DATABASE'
            )
        return None

    def read_source(
        self, source: SqlSource | None, url: SecretUrl | None, login: SqlSource
    ) -> SqlSource | None:
        """The database of `read_url`; None where there is none, or it cannot be."""
        if url is None or source is None:
            return None
        if source.dialect is not Dialect.SQLITE:
            return self._parsed("read_url", url, login, source.dialect, "and the url is not")
        self._refuse("read_url", "needs a database server; a SQLite file has no replica")
        return None

    def options(self, given: Mapping[str, object]) -> SqlOptions:
        """What comes of `pool_options`."""
        return read_pool(
            given,
            lambda name, message: self._refuse(f"pool_options.{name}", message),
            lambda name, message: self.section.warn(f"pool_options.{name}", message),
        )

    def _parsed(
        self, name: str, url: SecretUrl, login: SqlSource, dialect: Dialect | None, other: str
    ) -> SqlSource | None:
        try:
            return self._parse(name, url, login, dialect, other)
        except Invalid as error:
            self._refuse(name, str(error))
        return None

    def _parse(
        self, name: str, url: SecretUrl, login: SqlSource, dialect: Dialect | None, other: str
    ) -> SqlSource:
        parsed = parse_database_url(url.reveal())
        if parsed.dialect is not dialect:
            raise Invalid(f"is for {parsed.product}, {other}; let the two agree")
        if parsed.dialect is Dialect.SQLITE:
            return SqlSource.sqlite(self._folder / parsed.database)
        found = msgspec.structs.replace(
            login,
            dialect=parsed.dialect,
            database=parsed.database,
            hosts=parsed.hosts,
            username=parsed.username or login.username,
            password=parsed.password if parsed.password is not None else login.password,
        )

        def warn(message: str) -> None:
            self.section.warn(name, message)

        found = apply_parameters(found, parsed, self._folder, warn, writes=name == "url")
        _check_texts(found)
        self._doubt(name, found, login)
        return found

    def _doubt(self, name: str, source: SqlSource, login: SqlSource) -> None:
        """Warn about what works and may not be meant."""
        if name == "url" and login.username and source.username != login.username:
            self.section.warn("username", "is not used: the url names another user")
        if name == "url" and login.password and source.password != login.password:
            self.section.warn("password", "is not used: the url has another one")
        far = [host for host in source.hosts if not is_loopback(host.name)]
        if far and source.tls.mode is TlsMode.DISABLE:
            self.section.warn(
                name,
                f"turns TLS off, and {far[0].name} is not this machine: artifacts travel for "
                "anyone on the way to read",
            )

    def _refuse(self, name: str, message: str) -> None:
        """Note why the database cannot be opened; the same is a warning in WSO2's own table."""
        section = self.section
        if self._is_own:
            section.problem(name, message)
            return
        section.warn(name, f"{message}. A publisher cannot start with it; gateways need it not")
        self.refusal = self.refusal or ConfigProblem(message, dotted(section.place(name)))


def _check_texts(source: SqlSource) -> None:
    """Refuse what no driver can send; an environment variable may hold any byte."""
    password = source.password.reveal() if source.password else ""
    for text in (source.database, source.username or "", password, *source.libpq.values()):
        if "\0" in text or text != text.encode(errors="replace").decode():
            raise Invalid(
                "has a NUL character, or one that is not UTF-8, in the database's name, the "
                "user's name, the password or a parameter"
            )


def _unserved(sort: str) -> str:
    """Why a kind of database cannot be used, and which can."""
    kind = UNSERVED.get(sort)
    if kind in {"mssql", "oracle"}:
        return (
            f"is for {kind}: gatesync can write its creation script, but has never been run on "
            f"it, and does not open it; use one of {_SERVED}"
        )
    if kind:
        return f"is for {kind}, on which gatesync does not run; use one of {_SERVED}"
    near = get_close_matches(sort, DIALECTS, 1)
    return f"must be one of {_SERVED}" + (f"; did you mean {near[0]}?" if near else "")
