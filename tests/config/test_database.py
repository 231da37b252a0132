"""The database section, as WSO2 and SQLAlchemy write it, becomes what the store opens."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from gatesync.config import ConfigProblem, Secret
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_source import DatabaseHost, Dialect, SqlSource, TlsMode
from tests.config.conftest import TABLE, Reading, table

pytestmark = pytest.mark.fast


class Databases:
    """Reads the database section with a URL in it, and other keys."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def source(self, url: str, **keys: object) -> SqlSource:
        """What comes of a URL about which there is nothing to say."""
        source, warnings = self.warned(url, **keys)
        assert warnings == []
        return source

    def warned(self, url: str, **keys: object) -> tuple[SqlSource, list[str]]:
        loaded = self._reading.load(table(url=url, **keys))
        assert loaded.settings.database.source is not None
        return loaded.settings.database.source, [each.message for each in loaded.warnings]

    def problem(self, url: str, **keys: object) -> ConfigProblem:
        return self._reading.problem(table(url=url, **keys))


@pytest.fixture
def databases(reading: Reading) -> Databases:
    return Databases(reading)


@pytest.mark.parametrize(
    ("url", "dialect", "hosts"),
    [
        ("jdbc:mysql://db:3306/apim", Dialect.MYSQL, [("db", 3306)]),
        ("jdbc:mysql://db/apim", Dialect.MYSQL, [("db", 3306)]),
        ("jdbc:MySQL:///apim", Dialect.MYSQL, [("localhost", 3306)]),
        ("jdbc:mariadb://db:3307/apim", Dialect.MYSQL, [("db", 3307)]),
        ("jdbc:mariadb:sequential://a,b/apim", Dialect.MYSQL, [("a", 3306), ("b", 3306)]),
        ("jdbc:mysql:failover://a:1,b:2/apim", Dialect.MYSQL, [("a", 1), ("b", 2)]),
        ("jdbc:postgresql://db/apim", Dialect.POSTGRESQL, [("db", 5432)]),
        ("jdbc:postgresql:apim", Dialect.POSTGRESQL, [("localhost", 5432)]),
        ("jdbc:postgresql:///apim", Dialect.POSTGRESQL, [("localhost", 5432)]),
        ("jdbc:postgresql://[::1]:5433/apim", Dialect.POSTGRESQL, [("::1", 5433)]),
        ("jdbc:postgresql://[::1],10.0.0.1/apim", Dialect.POSTGRESQL,
         [("::1", 5432), ("10.0.0.1", 5432)]),
        ("postgresql://db/apim", Dialect.POSTGRESQL, [("db", 5432)]),
        ("postgresql+psycopg://db:1/apim", Dialect.POSTGRESQL, [("db", 1)]),
        ("postgres:///apim", Dialect.POSTGRESQL, []),
        ("mysql+pymysql://db/apim", Dialect.MYSQL, [("db", 3306)]),
        ("mariadb://db/apim", Dialect.MYSQL, [("db", 3306)]),
    ],
)  # fmt: skip
def test_a_url_names_hosts_and_a_database(
    databases: Databases, url: str, dialect: Dialect, hosts: list[tuple[str, int]]
) -> None:
    source = databases.source(url)
    assert (source.dialect, source.database) == (dialect, "apim")
    assert source.hosts == tuple(DatabaseHost(*host) for host in hosts)


@pytest.mark.parametrize("sort", ["postgresql", "postgre", "postgres", "PostgreSQL"])
def test_postgresql_has_several_names(databases: Databases, sort: str) -> None:
    source = databases.source("jdbc:postgresql://db/apim", type=sort)
    assert source.dialect is Dialect.POSTGRESQL


@pytest.mark.parametrize("sort", ["mysql", "mariadb"])
@pytest.mark.parametrize("product", ["mysql", "mariadb"])
def test_mysql_and_mariadb_are_one_kind(databases: Databases, sort: str, product: str) -> None:
    assert databases.source(f"jdbc:{product}://h/apim", type=sort).dialect is Dialect.MYSQL


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("jdbc:sqlite:a b.db", "a b.db"),
        ("sqlite:///a.db", "a.db"),
        ("sqlite+pysqlite:////tmp/a.db", "/tmp/a.db"),
    ],
)
def test_sqlite_is_a_file_beside_the_configuration(
    databases: Databases, tmp_path: Path, url: str, path: str
) -> None:
    assert databases.source(url) == SqlSource.sqlite(tmp_path / path)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql.example:3306", "must be jdbc:sqlite:PATH, jdbc:postgresql://"),
        ("jdbc:mysql:loadbalance://a,b/d", "begins with mysql:loadbalance:, which gatesync does"),
        ("jdbc:mysql:replication://a,b/d", "a replica in read_url"),
        ("jdbc:mariadb:aurora://a/d", "which gatesync does not do"),
        ("jdbc:mysql://address=(host=a)/d", "has hosts in parentheses"),
        ("jdbc:mysql://db:3306", "names no database"),
        ("jdbc:mysql://db:3306/", "names no database"),
        ("jdbc:mysql://db:0/d", "not from 1 to 65535"),
        ("jdbc:mysql://a,db:65536/d", "has a port, number 2,"),
        ("jdbc:mysql://db:3306:1/d", "has a host, number 1,"),
        ("jdbc:postgresql://[::zz]/d", "has a host, number 1,"),
        ("jdbc:postgresql://::1/d", "has a host, number 1,"),
        ("jdbc:postgresql://h/%ff", "percent-escapes in the database's name"),
        ("jdbc:postgresql://h/a%00b", "NUL character in the database's name"),
        ("postgresql+asyncpg://h/d", "another driver, +asyncpg; gatesync uses +psycopg"),
        ("postgresql+psycopg2://h/d", "another driver, +psycopg2; gatesync uses +psycopg"),
        ("mysql+asyncmy://h/d", "another driver, +asyncmy; gatesync uses +pymysql"),
        ("sqlite+aiosqlite:///a", "another driver, +aiosqlite; gatesync uses +pysqlite"),
        ("sqlite://", "must be sqlite:///PATH"),
        ("sqlite:///:memory:", "nothing is kept in memory"),
        ("jdbc:sqlserver://h;databaseName=d", "is for mssql: gatesync can write its creation"),
        ("jdbc:oracle:thin:@h:1521:orcl", "is for oracle: gatesync can write its creation"),
        ("jdbc:db2://h:50000/d", "use one of mysql, mariadb, postgresql, sqlite"),
        ("jdbc:h2:./d", "is for h2, on which gatesync does not run; use one of mysql, mariadb"),
        ("jdbc:mysql://h/d?sslMode=perhaps", "sslmode that must be one of disable, prefer"),
        ("jdbc:mysql://h/d?connectTimeout=5s", "must be a whole number of milliseconds"),
        ("jdbc:postgresql://h/d?connectTimeout=-1", "must be a whole number of seconds"),
        ("jdbc:mysql://h/d?useSSL=perhaps", "must be true or false"),
        ("jdbc:postgresql://h/d?sslrootcert=", "must be the path of a PEM file"),
        ("postgresql:///d?host=db", "must be the folder of a socket"),
        ("jdbc:postgresql://h/d?targetServerType=best", "must be one of any, primary"),
    ],
)
def test_a_url_that_cannot_be_used_says_what_to_write(
    databases: Databases, url: str, says: str
) -> None:
    problem = databases.problem(url)
    assert says in problem.message
    assert (problem.key, problem.line) == (f"{TABLE}.url", 2)


@pytest.mark.parametrize(
    ("keys", "key", "says"),
    [
        ({"type": "mysql", "url": "jdbc:postgresql://h/d"}, "url", 'type says "mysql"; let the'),
        ({"type": "postgresql"}, "url", "is missing; type \"postgresql\" needs jdbc:postgresql://"),
        ({"type": "mariadb"}, "url", "is missing; type \"mariadb\" needs jdbc:mysql://"),
        ({"type": "mssql"}, "type", "is for mssql: gatesync can write its creation script"),
        ({"type": "oracle"}, "type", "does not open it; use one of mysql, mariadb, postgresql"),
        ({"type": "db2"}, "type", "use one of mysql, mariadb, postgresql, sqlite"),
        ({"type": "h2"}, "type", "use one of mysql, mariadb, postgresql, sqlite"),
        ({"type": "postgersql"}, "type", "did you mean postgresql?"),
        ({"read_url": "jdbc:mysql://h/d"}, "read_url", "a SQLite file has no replica"),
        ({"url": "jdbc:mysql://h/d", "read_url": "jdbc:postgresql://h/d"}, "read_url",
         "is for postgresql, and the url is not"),
        ({"url": "jdbc:mysql://h/d", "read_url": "h"}, "read_url", "must be jdbc:sqlite:PATH"),
        ({"url": "jdbc:mysql://h/d", "username": "a\0b"}, "url", "has a NUL character"),
    ],
)  # fmt: skip
def test_keys_that_do_not_go_together_are_refused(
    reading: Reading, keys: dict[str, str], key: str, says: str
) -> None:
    lines = [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in keys.items()]
    problem = reading.problem(f"[{TABLE}]\n" + "\n".join(lines))
    assert says in problem.message
    assert problem.key == f"{TABLE}.{key}"
    assert problem.line == 1 + (list(keys).index(key) + 1 if key in keys else 0)


def test_the_packs_own_database_is_no_error_until_it_is_opened(reading: Reading) -> None:
    loaded = reading.load('[database.apim_db]\ntype = "db2"\npool_options = {maxActive = 0}\n')
    database = loaded.settings.database
    assert database.source is None
    assert database.refusal is not None
    assert database.refusal.key == "database.apim_db.type"
    assert [each.line for each in loaded.warnings] == [2, 3]
    assert all("gateways need it not" in each.message for each in loaded.warnings)


def test_credentials_stand_in_keys_in_the_url_or_in_its_parameters(databases: Databases) -> None:
    url = "jdbc:mysql://{}h/d{}"
    keys = {"username": "u", "password": "p@ss"}
    for source in (
        databases.source(url.format("", ""), **keys),
        databases.source(url.format("u:p%40ss@", "")),
        databases.source(url.format("", "?user=u&password=p@ss")),
        databases.source(url.format("", "?password=p%40ss&amp;user=u")),
        databases.source(url.format("u@", "?password=p%40ss")),
        databases.source(url.format("u@", ""), **keys),
    ):
        assert (source.username, source.password) == ("u", Secret("p@ss"))


def test_credentials_in_the_url_go_before_the_keys_and_that_is_said(databases: Databases) -> None:
    source, warnings = databases.warned("jdbc:mysql://u:p@h/d", username="v", password="q")
    assert (source.username, source.password) == ("u", Secret("p"))
    assert warnings == [
        "is not used: the url names another user",
        "is not used: the url has another one",
    ]


def test_a_replica_takes_the_same_forms_and_the_same_credentials(reading: Reading) -> None:
    database = reading.load(
        table(
            url="jdbc:postgresql://a:1,b:2/d",
            read_url="jdbc:postgresql://c,e/d?sslmode=require",
            username="u",
            password="p",
        )
    ).settings.database
    assert database.source is not None
    assert database.read_source is not None
    assert database.read_source.tls.mode is TlsMode.REQUIRE
    assert (database.read_source.username, database.read_source.password) == ("u", Secret("p"))
    assert str(database.read_source) == "postgresql://c:5432,e:5432/d"
    # Of several servers the store needs the one that it can write to.
    assert database.source.libpq == {"target_session_attrs": "read-write"}
    assert database.read_source.libpq == {}


@pytest.mark.parametrize(
    ("product", "parameters", "mode"),
    [
        ("mysql", "", TlsMode.PREFER),
        ("mysql", "useSSL=false", TlsMode.DISABLE),
        ("mysql", "useSSL=true", TlsMode.REQUIRE),
        ("mysql", "usessl=TRUE&requireSSL=true", TlsMode.REQUIRE),
        ("mysql", "useSSL=true&verifyServerCertificate=true", TlsMode.VERIFY_CA),
        ("mysql", "useSSL=true&verifyServerCertificate=false", TlsMode.REQUIRE),
        ("mysql", "sslMode=VERIFY_IDENTITY&useSSL=false", TlsMode.VERIFY_FULL),
        ("mysql", "sslMode=PREFERRED", TlsMode.PREFER),
        ("mysql", "sslMode=DISABLED", TlsMode.DISABLE),
        ("mysql", "ssl_ca=ca.pem", TlsMode.VERIFY_CA),
        ("mysql", "ssl_ca=ca.pem&ssl_verify_identity=true", TlsMode.VERIFY_FULL),
        ("mysql", "ssl_disabled=true", TlsMode.DISABLE),
        ("mariadb", "useSsl=true", TlsMode.VERIFY_FULL),
        ("mariadb", "useSsl=true&trustServerCertificate=true", TlsMode.REQUIRE),
        ("mariadb", "useSsl=true&disableSslHostnameVerification=true", TlsMode.VERIFY_CA),
        ("mariadb", "sslMode=trust", TlsMode.REQUIRE),
        ("mariadb", "sslMode=verify-full&serverSslCert=ca.pem", TlsMode.VERIFY_FULL),
        ("postgresql", "", TlsMode.PREFER),
        ("postgresql", "ssl=true", TlsMode.VERIFY_FULL),
        ("postgresql", "ssl", TlsMode.VERIFY_FULL),
        ("postgresql", "ssl=true&sslfactory=org.postgresql.ssl.NonValidatingFactory",
         TlsMode.REQUIRE),
        ("postgresql", "ssl=false", TlsMode.DISABLE),
        ("postgresql", "ssl=true&sslmode=verify-ca", TlsMode.VERIFY_CA),
        ("postgresql", "sslmode=disable", TlsMode.DISABLE),
    ],
)  # fmt: skip
def test_tls_is_what_the_driver_in_java_would_have_done_or_more(
    databases: Databases, product: str, parameters: str, mode: TlsMode
) -> None:
    source = databases.source(f"jdbc:{product}://localhost/d?{parameters}")
    assert source.tls.mode is mode


def test_tls_that_is_turned_off_beyond_this_machine_is_a_warning(databases: Databases) -> None:
    _, warnings = databases.warned("jdbc:mysql://db.example/d?useSSL=false")
    assert len(warnings) == 1
    assert "turns TLS off, and db.example is not this machine" in warnings[0]


def test_certificates_lie_beside_the_configuration(databases: Databases, tmp_path: Path) -> None:
    tls = databases.source(
        "jdbc:postgresql://h/d?sslmode=verify-full&sslrootcert=ca.pem&sslcert=/etc/c.pem"
        "&sslkey=k.pem&sslpassword=hidden"
    ).tls
    assert tls.authorities == str(tmp_path / "ca.pem")
    assert (tls.certificate, tls.key) == ("/etc/c.pem", str(tmp_path / "k.pem"))
    assert tls.key_password == Secret("hidden")
    system = databases.source("jdbc:postgresql://h/d?sslmode=verify-full&sslrootcert=system")
    assert system.tls.authorities == "system"


@pytest.mark.parametrize(
    ("url", "fields"),
    [
        ("jdbc:mysql://h/d?connectTimeout=2500", {"connect_seconds": 3}),
        ("jdbc:mysql://h/d?connectTimeout=0", {"connect_seconds": 10}),
        ("jdbc:mysql://h/d?socketTimeout=60000", {"network_seconds": 60}),
        ("mysql://h/d?connect_timeout=3&read_timeout=4", {"connect_seconds": 3,
                                                          "network_seconds": 4}),
        ("jdbc:postgresql://h/d?connectTimeout=3&socketTimeout=4", {"connect_seconds": 3,
                                                                    "network_seconds": 4}),
        ("jdbc:postgresql://h/d?loginTimeout=5", {"connect_seconds": 5}),
        ("postgresql://h/d?connect_timeout=5", {"connect_seconds": 5}),
        ("jdbc:postgresql://h/d?currentSchema=a,b", {"search_path": "a,b"}),
        ("jdbc:postgresql://h/d?ApplicationName=my+gate", {"application": "my gate"}),
        ("mysql://h/d?unix_socket=/run/db.sock", {"socket": "/run/db.sock"}),
        ("postgresql:///d?host=/run/db", {"socket": "/run/db"}),
        ("jdbc:postgresql://a,b/d?targetServerType=any",
         {"libpq": {"target_session_attrs": "any"}}),
        ("jdbc:postgresql://h/d?options=-c%20a=1&channelBinding=require",
         {"libpq": {"options": "-c a=1", "channel_binding": "require"}}),
        ("postgresql://h/d?keepalives_idle=5&loadBalanceHosts=true",
         {"libpq": {"keepalives_idle": "5", "load_balance_hosts": "random"}}),
    ],
)  # fmt: skip
def test_parameters_are_used_by_what_they_mean(
    databases: Databases, url: str, fields: Mapping[str, object]
) -> None:
    source = databases.source(url)
    assert {name: getattr(source, name) for name in fields} == fields


@pytest.mark.parametrize(
    "parameters",
    [
        "autoReconnect=true&useUnicode=true&characterEncoding=UTF-8&serverTimezone=UTC",
        "allowPublicKeyRetrieval=true&rewriteBatchedStatements=true&zeroDateTimeBehavior=round",
        "charset=utf8mb4",
        "CACHEPREPSTMTS=true",
    ],
)
def test_what_is_about_java_alone_is_passed_over(databases: Databases, parameters: str) -> None:
    assert databases.source(f"jdbc:mysql://h/d?{parameters}").database == "d"


@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        ("sessionVariables=sql_mode=ANSI", "sessionVariables, which is not used: the store sets"),
        ("trustCertificateKeyStoreUrl=file:/a.jks", "give PEM files, as sslrootcert"),
        ("characterEncoding=latin1", "asks for another encoding than UTF-8"),
        ("useSLL=true", "'useSLL' that gatesync does not know; did you mean useSSL?"),
        ("conectTimeout=1", "did you mean connectTimeout?"),
        ("nothingLikeIt=1", "'nothingLikeIt' that gatesync does not know; it is not used"),
    ],
)
def test_a_parameter_that_is_not_used_is_a_warning(
    databases: Databases, parameter: str, says: str
) -> None:
    _, (warning,) = databases.warned(f"jdbc:mysql://h/d?{parameter}")
    assert says in warning


def test_a_java_class_is_not_used_and_a_drivers_own_is_passed_over(databases: Databases) -> None:
    url = "jdbc:postgresql://localhost/d?sslfactory="
    _, (warning,) = databases.warned(f"{url}com.example.Factory")
    assert "sslfactory, which is not used: a Java class" in warning
    assert databases.source(f"{url}org.postgresql.ssl.LibPQFactory").tls.mode is TlsMode.PREFER


def test_the_pool_of_a_pack_is_taken(reading: Reading) -> None:
    loaded = reading.load(
        table(url="jdbc:mysql://h/d")
        + """
        [database.sync_runtime_artifacts_db.pool_options]
        maxActive = "50"
        maxIdle = 10
        minIdle = 5
        initialSize = 2
        testOnBorrow = true
        validationQuery = "SELECT 1"
        validationInterval = 30000
        defaultAutoCommit = false
        maxAge = 600000
        """
    )
    assert loaded.warnings == ()
    assert loaded.settings.database.options == SqlOptions(readers=49, recycle_after=600.0)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("maxWait = 60000", "has no effect: nobody waits for a connection alone"),
        ("removeAbandonedTimeout = 60", "has no effect: no connection of gatesync is left"),
        ("jdbcInterceptors = 'ConnectionState'", "has no effect: they are Java classes"),
        ("defaultTransactionIsolation = 'READ_COMMITTED'", "has no effect: the store sets"),
        ("maxActiv = 3", "did you mean maxActive?"),
        ("zzz = 3", "is not an option that gatesync knows; it has no effect"),
    ],
)
def test_a_pool_option_without_a_meaning_is_a_warning(
    reading: Reading, option: str, says: str
) -> None:
    loaded = reading.load(f"[{TABLE}.pool_options]\n{option}")
    (warning,) = loaded.warnings
    assert says in warning.message
    assert warning.key == f"{TABLE}.pool_options.{option.partition(' ')[0]}"
    assert warning.line == 2
    assert loaded.settings.database.options == SqlOptions()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("maxActive = 'fifty'", "must be a whole number; it is 'fifty'"),
        ("maxActive = 1", "must be a whole number from 2 to 1000; it is 1"),
        ("maxActive = true", "must be a whole number; it is True"),
        ("maxAge = -1", "a whole number of milliseconds from 0"),
    ],
)
def test_a_pool_option_of_another_type_is_an_error(
    reading: Reading, option: str, says: str
) -> None:
    problem = reading.problem(f"[{TABLE}.pool_options]\n{option}")
    assert says in problem.message
    assert (problem.key, problem.line) == (f"{TABLE}.pool_options.{option.split()[0]}", 2)


def test_placeholders_are_filled_in_everywhere(reading: Reading) -> None:
    loaded = reading.load(
        """
        [database.sync_runtime_artifacts_db]
        url = "jdbc:postgresql://$env{DB_HOST}:${db.port}/$ref{database.shared_db.name}"
        read_url = "jdbc:postgresql://$env{DB_HOST}/d"
        username = "$ref{super_admin.username}"
        password = "$secret{db}"
        pool_options = { maxActive = "$env{DB_POOL}" }
        [database.shared_db]
        name = "shared"
        [super_admin]
        username = "wso2carbon"
        [secrets]
        db = "[$env{DB_PASSWORD}]"
        """,
        {"DB_HOST": "db1", "db.port": "5433", "DB_POOL": "7", "DB_PASSWORD": "p$@:/"},
    )
    database = loaded.settings.database
    assert loaded.warnings == ()
    assert str(database.source) == "postgresql://db1:5433/shared"
    assert str(database.read_source) == "postgresql://db1:5432/d"
    assert database.source is not None
    assert (database.source.username, database.source.password) == ("wso2carbon", Secret("p$@:/"))
    assert database.options.readers == 6
