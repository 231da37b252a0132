"""TLS to real database servers: it is there when it is asked for, and is checked as was asked."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import OperationalError

from gatesync.secret import Secret
from gatesync.stores.sql import open_sql_store
from gatesync.stores.sql_source import DatabaseHost, Dialect, SqlSource, Tls, TlsMode
from gatesync.stores.sql_url import connect_arguments, sql_url
from gatesync.stores.store import StoreError
from tests.servers import mariadb, postgresql
from tests.servers.database import private_folder

SERVERS = {
    "postgresql": (
        postgresql.postgresql_server,
        postgresql,
        ("ssl=on", "ssl_cert_file={certificate}", "ssl_key_file={key}"),
    ),
    "mariadb": (mariadb.mariadb_server, mariadb, ("ssl-cert={certificate}", "ssl-key={key}")),
}
CHOSEN = [name for name in SERVERS if name in (os.environ.get("GATESYNC_TEST_DB") or name)]
ENCRYPTED = {
    "postgresql": "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "mariadb": "SELECT VARIABLE_VALUE <> '' FROM information_schema.SESSION_STATUS"
    " WHERE VARIABLE_NAME = 'Ssl_cipher'",
}


class Certificates(NamedTuple):
    """An authority, another one, and what the first gave to a server at 127.0.0.1."""

    authority: Path
    stranger: Path
    certificate: Path
    key: Path


class TlsServer(NamedTuple):
    """A server that offers TLS, but does not insist; `source` leads to a database of its."""

    kind: str
    source: SqlSource
    certificates: Certificates

    def reached_by(self, tls: Tls, host: str = "127.0.0.1") -> SqlSource:
        hosts = (DatabaseHost(host, self.source.hosts[0].port),)
        return msgspec.structs.replace(self.source, tls=tls, hosts=hosts)

    def is_encrypted(self, tls: Tls, host: str = "127.0.0.1") -> bool:
        """Connect, and ask the server."""
        source = self.reached_by(tls, host)
        engine = create_engine(sql_url(source), connect_args=connect_arguments(source))
        try:
            with engine.connect() as connection:
                return bool(connection.exec_driver_sql(ENCRYPTED[self.kind]).scalar())
        finally:
            engine.dispose()


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    with private_folder("tls") as folder:
        folder.chmod(0o755)
        authority, authority_key = _authority(folder, "authority")
        stranger, _ = _authority(folder, "stranger")
        key, request, made = (folder / f"server.{end}" for end in ("key", "csr", "pem"))
        names = folder / "names"
        names.write_text("subjectAltName=IP:127.0.0.1\n")
        _openssl("req", "-new", *KEY, "-subj", "/CN=db", "-keyout", key, "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", authority_key,
                 "-CAcreateserial", "-days", "2", "-extfile", names, "-out", made)  # fmt: skip
        key.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(key, *[folder.stat().st_uid] * 2)
        yield Certificates(authority, stranger, made, key)


KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def _authority(folder: Path, name: str) -> tuple[Path, Path]:
    made, key = folder / f"{name}.pem", folder / f"{name}.key"
    _openssl("req", "-x509", *KEY, "-days", "2", "-subj", f"/CN={name}", "-keyout", key,
             "-out", made)  # fmt: skip
    return made, key


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module", params=CHOSEN)
def server(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[TlsServer]:
    start, module, settings = SERVERS[request.param]
    made, key = certificates.certificate, certificates.key
    more = tuple(each.format(certificate=made, key=key) for each in settings)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(module, "SETTINGS", (*module.SETTINGS, *more))
        url = make_url(stack.enter_context(stack.enter_context(start()).database()))
        source = SqlSource(
            dialect=Dialect.MYSQL if request.param == "mariadb" else Dialect.POSTGRESQL,
            database=str(url.database),
            hosts=(DatabaseHost("127.0.0.1", int(url.port or 0)),),
            username=url.username,
            password=Secret(str(url.password)),
        )
        yield TlsServer(request.param, source, certificates)


def test_a_connection_is_encrypted_as_it_was_asked_for(server: TlsServer) -> None:
    trusted = str(server.certificates.authority)
    assert not server.is_encrypted(Tls(mode=TlsMode.DISABLE))
    assert server.is_encrypted(Tls())
    assert server.is_encrypted(Tls(mode=TlsMode.REQUIRE))
    assert server.is_encrypted(Tls(mode=TlsMode.VERIFY_CA, authorities=trusted))
    assert server.is_encrypted(Tls(mode=TlsMode.VERIFY_CA, authorities=trusted), "localhost")
    assert server.is_encrypted(Tls(mode=TlsMode.VERIFY_FULL, authorities=trusted))


@pytest.mark.parametrize("mode", [TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL])
def test_an_authority_that_is_not_trusted_is_refused(server: TlsServer, mode: TlsMode) -> None:
    for authorities in (str(server.certificates.stranger), None):
        with pytest.raises(OperationalError, match=r"certificate"):
            server.is_encrypted(Tls(mode=mode, authorities=authorities))


def test_a_certificate_for_another_name_is_refused(server: TlsServer) -> None:
    trusted = str(server.certificates.authority)
    with pytest.raises(OperationalError, match=r"does not match|mismatch|not valid for"):
        server.is_encrypted(Tls(mode=TlsMode.VERIFY_FULL, authorities=trusted), "localhost")


async def test_the_store_itself_opens_with_what_was_said(server: TlsServer) -> None:
    trusted, stranger = server.certificates.authority, server.certificates.stranger
    tls = Tls(mode=TlsMode.VERIFY_FULL, authorities=str(trusted))
    async with open_sql_store(server.reached_by(tls)) as store:
        assert await store.labels() == []
    tls = Tls(mode=TlsMode.VERIFY_FULL, authorities=str(stranger))
    with pytest.raises(StoreError, match="certificate"):
        async with open_sql_store(server.reached_by(tls)):
            pass
