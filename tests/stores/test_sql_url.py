"""What SQLAlchemy and the drivers are given for a database. Nothing is connected to."""

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from gatesync.secret import Secret
from gatesync.stores.sql_source import DatabaseHost, Dialect, SqlSource, Tls, TlsMode
from gatesync.stores.sql_url import connect_arguments, sql_url, try_hosts_in_order
from gatesync.stores.store import StoreError

pytestmark = pytest.mark.fast

HOSTS = (DatabaseHost("db1", 1), DatabaseHost("::1", 2))


def postgresql(**fields: Any) -> SqlSource:
    return SqlSource(dialect=Dialect.POSTGRESQL, database="d b", **fields)


def mysql(**fields: Any) -> SqlSource:
    return SqlSource(dialect=Dialect.MYSQL, database="d b", **fields)


def test_the_url_names_the_driver_the_first_host_and_no_password() -> None:
    source = postgresql(hosts=HOSTS, username="u:@", password=Secret("hidden"))
    url = sql_url(source)
    assert (url.drivername, url.host, url.port) == ("postgresql+psycopg", "db1", 1)
    assert (url.username, url.password, url.database) == ("u:@", None, "d b")
    assert sql_url(mysql(hosts=HOSTS[1:])).drivername == "mysql+pymysql"
    assert sql_url(SqlSource.sqlite(Path("a?b#c"))).database == "a?b#c"
    assert connect_arguments(SqlSource.sqlite(Path("a"))) == {}


def test_a_source_says_where_it_is_and_nothing_else() -> None:
    source = postgresql(hosts=HOSTS, username="u", password=Secret("hidden"))
    assert str(source) == "postgresql://db1:1,[::1]:2/d b"
    assert str(mysql(socket="/run/db.sock")) == "mysql:///run/db.sock/d b"
    assert str(SqlSource.sqlite(Path("/a/b"))) == "sqlite:////a/b"
    assert "hidden" not in repr(source)


def test_postgresql_is_given_everything_that_was_said() -> None:
    source = postgresql(
        hosts=HOSTS,
        password=Secret("p w"),
        tls=Tls(
            mode=TlsMode.VERIFY_FULL,
            authorities="ca.pem",
            certificate="c.pem",
            key="k.pem",
            key_password=Secret("q"),
        ),
        connect_seconds=3,
        network_seconds=4,
        application="gate",
        search_path='"a b",c\\d',
        libpq={"options": "-cwork_mem=4MB", "target_session_attrs": "read-write"},
    )
    arguments = connect_arguments(source)
    assert arguments == {
        "host": "db1,::1",
        "port": "1,2",
        "password": "p w",
        "sslmode": "verify-full",
        "sslrootcert": "ca.pem",
        "sslcert": "c.pem",
        "sslkey": "k.pem",
        "sslpassword": "q",
        "connect_timeout": 3,
        "tcp_user_timeout": 4000,
        "application_name": "gate",
        "options": '-cwork_mem=4MB -csearch_path="a\\ b",c\\\\d',
        "target_session_attrs": "read-write",
    }
    # Each is a word that libpq knows, and comes through as it is.
    assert conninfo_to_dict(make_conninfo("", **arguments))["options"] == arguments["options"]


def test_postgresql_on_a_socket() -> None:
    assert connect_arguments(postgresql(socket="/run/db"))["host"] == "/run/db"
    assert "host" not in connect_arguments(postgresql())


def test_mysql_is_given_everything_that_was_said() -> None:
    source = mysql(
        hosts=HOSTS, password=Secret("pä€"), connect_seconds=3, network_seconds=4, application="g"
    )
    arguments = connect_arguments(source)
    assert arguments == {
        "charset": "utf8mb4",
        "password": "pä€".encode(),  # MySQL reads UTF-8; PyMySQL would send Latin-1, or fail
        "connect_timeout": 3,
        "read_timeout": 4,
        "write_timeout": 4,
        "program_name": "g",
    }
    assert connect_arguments(mysql(socket="/run/db.sock"))["unix_socket"] == "/run/db.sock"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate, which is its own authority, and its key, which has the password `hidden`."""
    folder = tmp_path_factory.mktemp("tls")
    made, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-passout", "pass:hidden", "-subj", "/CN=db", "-out", made, "-keyout", key],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return made, key


@pytest.mark.parametrize(
    ("mode", "with_authorities", "verified", "named"),
    [
        (TlsMode.REQUIRE, False, ssl.CERT_NONE, False),
        (TlsMode.VERIFY_CA, True, ssl.CERT_REQUIRED, False),
        (TlsMode.VERIFY_CA, False, ssl.CERT_REQUIRED, False),
        (TlsMode.VERIFY_FULL, True, ssl.CERT_REQUIRED, True),
        (TlsMode.VERIFY_FULL, False, ssl.CERT_REQUIRED, True),
    ],
)
def test_mysql_over_tls_checks_what_was_asked_for(
    certificate: tuple[str, str],
    mode: TlsMode,
    with_authorities: bool,
    verified: ssl.VerifyMode,
    named: bool,
) -> None:
    tls = Tls(mode=mode, authorities=certificate[0] if with_authorities else None)
    arguments = connect_arguments(mysql(hosts=HOSTS, tls=tls))
    # PyMySQL's own view of it, after what it makes of its arguments.
    connection: Any = pymysql.Connection(defer_connect=True, **arguments)
    assert connection.ssl
    assert connection._ssl_required
    assert (connection.ctx.verify_mode, connection.ctx.check_hostname) == (verified, named)
    if with_authorities:
        assert len(connection.ctx.get_ca_certs()) == 1


def test_mysql_without_tls_and_with_it_where_the_server_can() -> None:
    for mode, tried in ((TlsMode.DISABLE, False), (TlsMode.PREFER, True)):
        arguments = connect_arguments(mysql(hosts=HOSTS, tls=Tls(mode=mode)))
        connection: Any = pymysql.Connection(defer_connect=True, **arguments)
        assert (connection.ssl, connection._ssl_required) == (tried, False)


def test_a_clients_key_is_opened_with_its_password(certificate: tuple[str, str]) -> None:
    made, key = certificate
    tls = Tls(certificate=made, key=key, key_password=Secret("hidden"))
    assert isinstance(connect_arguments(mysql(tls=tls))["ssl"], ssl.SSLContext)
    for wrong in (None, Secret("wrong")):
        tls = Tls(certificate=made, key=key, key_password=wrong)
        with pytest.raises(StoreError, match=r"cert\.pem and .*key\.pem cannot be used: it is no"):
            connect_arguments(mysql(tls=tls))


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    missing, broken = tmp_path / "missing.pem", tmp_path / "broken.pem"
    broken.write_text("nothing")
    for path, why in ((missing, "No such file"), (broken, "no PEM file")):
        tls = Tls(mode=TlsMode.VERIFY_CA, authorities=str(path))
        with pytest.raises(StoreError, match=rf"{path.name} cannot be read: .*{why}"):
            connect_arguments(mysql(tls=tls))
        with pytest.raises(StoreError, match=rf"{path.name} cannot be used: .*{why}"):
            connect_arguments(mysql(tls=Tls(certificate=str(path))))


def test_hosts_are_tried_in_order_and_the_last_ones_reason_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, int]] = []

    def refuse(**arguments: Any) -> None:
        asked.append((arguments["host"], arguments["port"]))
        raise pymysql.err.OperationalError(2003, f"refused by {arguments['host']}")

    source = mysql(hosts=HOSTS, password=Secret("hidden"))
    engine = create_engine(sql_url(source), connect_args=connect_arguments(source))
    try_hosts_in_order(engine, source.hosts)
    monkeypatch.setattr(engine.dialect.loaded_dbapi, "connect", refuse)
    with pytest.raises(OperationalError, match="refused by ::1"):
        engine.connect()
    assert asked == [("db1", 1), ("::1", 2)]


@given(password=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
def test_no_text_of_sqlalchemys_has_the_password(password: str) -> None:
    password += "hidden"
    for source in (
        postgresql(hosts=(DatabaseHost("127.0.0.1", 1),), password=Secret(password)),
        mysql(hosts=(DatabaseHost("127.0.0.1", 1),), password=Secret(password)),
    ):
        engine = create_engine(sql_url(source), connect_args=connect_arguments(source))
        with pytest.raises(OperationalError) as refused:
            engine.connect()
        shown = [repr(engine), str(engine.url), str(refused.value), repr(refused.value.orig)]
        assert not [text for text in shown if "hidden" in text]
        if source.dialect is Dialect.POSTGRESQL:
            info = make_conninfo("", **connect_arguments(source))
            assert conninfo_to_dict(info)["password"] == password
