"""Whatever a cluster leaves behind, no secret is in it: logs, answers, process lists, rows, files.

A cluster runs with TLS and debug logs, reads its database's password from a command, pushes with a
password, is shown wrong tokens, and loses its database. Then all that came out of it is searched
for all that was to stay secret, in each form in which it could have come out.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import psutil
import psycopg
import pytest
from sqlalchemy import URL, make_url

from gatesync.artifacts.compression import decompress
from gatesync.artifacts.errors import FormatError
from tests.servers.gatesync import LABEL, Place, ask, document, publishing, sequence_xml, until
from tests.servers.postgresql import PostgresqlProcess
from tests.web.certificates import LOOPBACK, Authority

pytestmark = pytest.mark.promise(8)

ZSTD = b"\x28\xb5\x2f\xfd"
UNPACKED_MAX = 64 * 1024 * 1024
# What is there to keep a secret, each with mode 0600.
KEEPING = {
    "admin.token",
    "broker-credentials.json",
    "client.toml",
    "gateway.token",
    "nats-server.conf",
    "push.token",
}


class Left(NamedTuple):
    """What a cluster left: texts by where they were found, secrets by what they are."""

    texts: dict[str, bytes]
    secrets: dict[str, str]
    folders: tuple[Path, Path]


def forms(secret: str) -> set[bytes]:
    """A secret as it is, and as URLs, JSON and Basic authentication would have it."""
    plain = secret.encode()
    written = {plain, quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}
    for before in (b"", b"admin:", b"gateway:"):  # base64 has three ways to write what follows
        whole = base64.b64encode(before + plain).rstrip(b"=")
        written.add(whole[-(len(plain) * 4 // 3) + 4 :][:-2])
    return written


def found_in(text: bytes, secret: str) -> bool:
    return any(form in text for form in forms(secret))


def raw(value: Any) -> bytes:
    """A value of a row or a file, decompressed where it is compressed."""
    content = value if isinstance(value, bytes) else str(value).encode()
    if content.startswith(ZSTD):
        try:
            return decompress(content, UNPACKED_MAX)
        except FormatError:
            pass
    return content


def with_debug_logs(config: str) -> str:
    return config.replace("[gatesync]\n", '[gatesync]\nlog_level = "debug"\n')


def signs(place: Place, key_id: str) -> bool:
    """Whether the heads of the publisher are signed by this key already."""
    return key_id in place.ask(f"/v1/heads?label={quote(LABEL)}").body.decode()


class Cluster:
    """A publisher with a gateway and a broker in one process, and a gateway in another."""

    def __init__(self, folder: Path, database: str) -> None:
        self.secrets: dict[str, str] = {
            "database password": str(make_url(database).password),
            "wrong database password": "wrong-database-password-1",
            "own broker password": "own-broker-password-1",
            "admin token of gw2": "admin-token-of-gw2-in-the-environment",
            "push token of gw2": "push-token-of-gw2-in-a-file",
            "wrong token": "gs_0123456789ab_" + "wrong" * 8 + "abc",
            "wrong password": "wrong-password-for-a-push",
            "token in a query": "gs_0123456789ab_" + "query" * 8 + "abc",
            "token in a URL": "gs_0123456789ab_" + "tokin" * 8 + "abc",
            "credential in an artifact": "credential-in-an-artifact-1",
        }
        self.texts: dict[str, bytes] = {}
        authority = Authority(folder / "authority")
        self.one = self._first(folder / "one", authority, database)
        self.two = self._second(folder / "two", authority)
        self.roles = [
            self.one.role("up", PUSH_PASSWORD=self.secrets["push token of gw2"]),
            self.two.role("gateway", ADMIN=self.secrets["admin token of gw2"]),
        ]

    def _first(self, folder: Path, authority: Authority, database: str) -> Place:
        place = Place(folder, node="gw1")
        place.publisher = place.publisher.replace("http:", "https:")
        place.gateway = place.gateway.replace("http:", "https:")
        pair = authority.issue("one", *LOOPBACK)
        self.secrets["TLS key"] = pair.key.read_text().splitlines()[1]
        url = make_url(database)
        (folder / "database.password").touch(0o600)
        (folder / "database.password").write_text(str(url.password) + "\n")
        place.config.write_text(
            f"{with_debug_logs(place.config.read_text())}"
            f'[gatesync.tls]\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n'
            f'ca = "{authority.file}"\n'
            "[gatesync.secrets]\n"
            'database = { command = ["cat", "database.password"] }\n'
            'push = { environment = "PUSH_PASSWORD" }\n'
            "[database.sync_runtime_artifacts_db]\n"
            f'url = "jdbc:postgresql://127.0.0.1:{url.port}/{url.database}"\n'
            f'username = "{url.username}"\npassword = "$secret{{database}}"\n'
        )
        return place

    def _second(self, folder: Path, authority: Authority) -> Place:
        place = Place(folder, node="gw2", publisher=self.one.publisher)
        place.gateway = place.gateway.replace("http:", "https:")
        pair = authority.issue("two", *LOOPBACK)
        (folder / "push").touch(0o600)
        (folder / "push").write_text(self.secrets["push token of gw2"])
        login = f'username = "own"\npassword = "{self.secrets["own broker password"]}"\n'
        text = place.config.read_text().replace("[apim.event_hub]\n", f"[apim.event_hub]\n{login}")
        text = text.replace(
            "[gatesync.gateway]\n",
            '[gatesync.gateway]\nadmin_token = "$secret{admin}"\npush_token = "$secret{push}"\n',
        )
        place.config.write_text(
            f"{with_debug_logs(text)}"
            f'[gatesync.tls]\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n'
            f'ca = "{authority.file}"\n'
            "[gatesync.secrets]\n"
            'admin = { environment = "ADMIN" }\npush = { file = "push" }\n'
        )
        with self.one.config.open("a") as config:
            config.write(
                "[[apim.gateway.environment]]\n"
                f'name = "E"\nlabels = ["{LABEL}"]\nservice_url = "{place.gateway}"\n'
                'username = "admin"\npassword = "$secret{push}"\n'
            )
        return place

    def start(self) -> None:
        up, gateway = self.roles
        up.start()
        self.one.give_token(self.two, LABEL)
        gateway.start()
        for place, node in ((self.one, "gw1"), (self.two, "gw2")):
            self.secrets[f"node token of {node}"] = place.node_token()
        self.secrets["operator's token"] = self.one.operator
        self.secrets["read token"] = self.one.create_token("read", "reader")
        self.secrets["admin token of gw1"] = self.one.admin_token()
        self.secrets["push token of gw1"] = (self.one.data / "push.token").read_text().strip()
        told = json.loads((self.one.data / "broker-credentials.json").read_text())
        self.secrets["publishers' password at the broker"] = told["publisher"]["password"]
        self.command(0, "keys", "create", "--config", self.one.config)
        (key,) = (self.one.data / "keys").glob("*.json")
        self.secrets["key that signs"] = json.loads(key.read_text())["private"]
        until(lambda: signs(self.one, key.stem), "the publisher signs")

    # What people do with it.

    def use(self) -> None:
        (self.one.folder / "a.xml").write_bytes(sequence_xml("a"))
        (self.one.folder / "b.xml").write_bytes(sequence_xml("b"))
        credential = {"alias": "backend", "password": self.secrets["credential in an artifact"]}
        api = {
            "name": "Menu",
            "version": "1.0",
            "apiDefinition": '<api name="Menu" context="/m"/>',
            "credentialsToBeAdd": [credential],
        }
        (self.one.folder / "menu.json").write_text(json.dumps(api))
        for arguments in (
            ("publish", "a.xml", "b.xml", "-l", LABEL, "--wait", "all"),
            ("publish", "menu.json", "-l", LABEL, "--wait", "all"),
            ("remove", "b"),
            ("verify",),
            ("audit", "--json"),
            ("config", "show", self.one.config),
        ):
            self.command(0, *arguments)

    def command(self, code: int, *arguments: Any, **env: str) -> None:
        given = {"PUSH_PASSWORD": self.secrets["push token of gw2"], **env}
        done = self.one.run(*arguments, **given)
        assert done.code == code, (arguments, done)
        shown = " ".join(each.name if isinstance(each, Path) else each for each in arguments)
        self.texts[f"gatesync {shown} {sorted(env)}"] = (done.out + done.err).encode()

    # What others do to it.

    def attack(self) -> None:
        wrong, query = self.secrets["wrong token"], self.secrets["token in a query"]
        admin = base64.b64encode(f"admin:{self.secrets['wrong password']}".encode()).decode()
        basic = {"Authorization": f"Basic {admin}"}
        for url in (self.one.publisher, self.two.gateway):
            for path in ("/v1/heads?label=x", "/v1/held", "/v1/contents/" + "0" * 64):
                self.ask(401, url, path, token=wrong)
            for name in ("token", "access_token", "Authorization"):
                self.ask(400, url, f"/v1/held?{name}={query}")
            body = {"labels": [LABEL], "remove": ["x"]}
            self.ask(401, url, "/v1/changes", method="POST", body=body, headers=basic)
            self.ask(401, url, "/v1/events", method="POST", body=b"x", headers=basic)
        hidden = {"security": {"password": self.secrets["credential in an artifact"]}}
        body = publishing(document("with-a-password", extra=hidden))
        mine = self.one.operator
        self.ask(400, self.one.publisher, "/v1/changes", method="POST", body=body, token=mine)
        mine = self.secrets["token in a URL"]
        host = self.one.publisher.partition("//")[2]
        self.command(2, "labels", "--publisher", f"https://user:{mine}@{host}")
        self.command(2, "labels", GATESYNC_PUBLISHER=f"https://{host}/?token={mine}")
        self.command(2, "list", GATESYNC_TOKEN=wrong)
        self.command(2, "labels", GATESYNC_TOKEN=f"{wrong}\n{wrong}")
        text = self.one.config.read_text()
        broken = self.one.folder / "broken.toml"
        password = self.secrets["wrong database password"]
        broken.write_text(
            f'[secrets]\nplain = "[{password}]"\n'
            "[gatesync.secrets]\n"
            f'fails = {{ command = ["sh", "-c", "echo {password}; exit 1"] }}\n'
            '[gatesync]\nlog_level = "$secret{plain}"\n'
            '[gatesync.gateway]\nadmin_token = "$secret{fails}"\n'
            f'push_token = ["{password}"]\n'
            f'[apim.event_hub]\nservice_url = "https://admin:{password}@host"\n'
            f'event_listening_endpoints = "nats://h?token={password}"\n'
        )
        self.command(2, "config", "check", broken)
        assert self.texts["gatesync config check broken.toml []"].count(b"broken.toml:") >= 5
        broken.write_text(text.replace('"$secret{database}"', f'"{password}"'))
        self.command(2, "db", "check", "--config", broken)

    def lose_the_database(self, server: PostgresqlProcess, name: str) -> None:
        with server.connect() as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            connection.execute(
                b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                (name,),
            )
            self.command(3, "publish", "b.xml", "-l", LABEL)
            self.ask(503, self.one.publisher, "/health/ready")
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
        until(
            lambda: ask(self.one.publisher, "/health/ready").status == 200, "the database is back"
        )

    def ask(self, status: int, url: str, path: str, **more: Any) -> None:
        answer = ask(url, path, **more)
        assert answer.status == status, (path, answer)
        where = f"answer of {url} {path.partition('=')[0]} {sorted(more)}"
        self.texts[where] = str(answer.headers).encode() + raw(answer.body)

    # What can be seen of it.

    def look(self, server: PostgresqlProcess, name: str) -> None:
        admins = {self.one.gateway: self.one.admin_token()}
        admins[self.two.gateway] = self.secrets["admin token of gw2"]
        for url, token in admins.items():
            for path in ("/v1/status", "/v1/held", "/metrics", "/openapi"):
                self.ask(200, url, path, token=token)
            self.ask(200, url, "/health/ready")
        mine = self.one.operator
        label = quote(LABEL)
        (head,) = self.one.heads()
        at = f"label={label}&epoch={head['epoch']}"
        for path in (
            *("/v1/cluster", "/v1/gateways", "/v1/labels", "/v1/artifacts", "/v1/audit"),
            *("/metrics", "/openapi/openapi.json", "/v1/history?name=a", "/v1/history?name=Menu"),
            f"/v1/receipts?{at}&revision={head['revision']}&first=1",
            f"/v1/changes?{at}&since=0",
            f"/v1/manifest?label={label}",
        ):
            self.ask(200, self.one.publisher, path, token=mine)
        for entry in self.one.ask(f"/v1/manifest?label={label}").json()["page"]["entries"]:
            digest = entry["digest"]
            self.ask(200, self.one.publisher, f"/v1/contents/{digest}", token=mine)
        for role in self.roles:
            for process in (psutil.Process(role.pid), *role.children()):
                command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
                self.texts[f"command line of {process.name()} {process.pid}"] = command
            for child in role.children():
                environ = Path(f"/proc/{child.pid}/environ").read_bytes()
                self.texts[f"environment of {child.name()}"] = environ
        self._rows(make_url(server.url(name)))

    def _rows(self, url: URL) -> None:
        with psycopg.connect(
            host=url.host,
            port=url.port,
            user=url.username,
            password=url.password,
            dbname=url.database,
        ) as connection:
            tables = connection.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
            ).fetchall()
            for (table,) in tables:
                rows = connection.execute(f'SELECT * FROM "{table}"'.encode()).fetchall()
                self.texts[f"table {table}"] = b"\n".join(raw(v) for row in rows for v in row)

    def logs(self) -> None:
        for role in self.roles:
            assert role.stop() == 0, role.said()
            self.texts[f"log of {role.arguments[0]}"] = role.log.read_bytes()


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgresqlProcess) -> Iterator[Left]:
    with ExitStack() as stack:
        database = stack.enter_context(postgresql.database())
        name = str(make_url(database).database)
        cluster = Cluster(tmp_path_factory.mktemp("secrets"), database)
        for place in (cluster.one, cluster.two):
            stack.callback(place.end)
        cluster.start()
        cluster.use()
        cluster.attack()
        cluster.lose_the_database(postgresql, name)
        cluster.look(postgresql, name)
        cluster.logs()
        folders = (cluster.one.data, cluster.two.data)
        yield Left(cluster.texts, cluster.secrets, folders)


def leaks(texts: Mapping[str, bytes], secrets: Mapping[str, str]) -> list[str]:
    """Which secret was found where."""
    hidden = {name: _hidden_part(secret) for name, secret in secrets.items()}
    assert all(len(part) > 15 for part in hidden.values())
    return [
        f"{name}: in {where}"
        for where, text in texts.items()
        for name, secret in hidden.items()
        if found_in(text, secret)
    ]


def _hidden_part(secret: str) -> str:
    """Of a token of ours all but its id, which may be shown; of a private key all but its kind."""
    if secret.startswith("gs_"):
        return secret.split("_", 2)[2]
    return secret.removeprefix("gssk_")


def test_no_secret_is_in_anything_that_is_shown(left: Left) -> None:
    assert len(left.secrets) >= 19
    assert len(left.texts) > 50
    for where in ("log of up", "log of gateway", "table gs_change"):
        assert len(left.texts[where]) > 200, where
    assert any(b"Menu" in text for where, text in left.texts.items() if "table" in where)
    assert leaks(left.texts, left.secrets) == []


def test_the_files_that_keep_a_secret_are_known_and_private(left: Left) -> None:
    """All others of the data folders are as free of them as what is shown."""
    kept: set[str] = set()
    texts: dict[str, bytes] = {}
    for path in (p for folder in left.folders for p in folder.rglob("*") if p.is_file()):
        if path.name in KEEPING or path.parent.name == "keys":
            kept.add(path.name)
            assert path.stat().st_mode & 0o077 == 0, path
        else:
            texts[str(path)] = raw(path.read_bytes())
    assert {"client.toml", "gateway.token", "push.token"} <= kept
    assert any("audit.jsonl" in where for where in texts)
    assert any("tokens.json" in where for where in texts)
    assert leaks(texts, left.secrets) == []


def test_a_credential_of_an_artifact_is_left_out_of_what_is_stored(left: Left) -> None:
    whole = b"".join(text for where, text in left.texts.items() if "/v1/contents/" in where)
    assert b"$secret{backend}" in whole
    assert not found_in(whole, left.secrets["credential in an artifact"])


def test_the_search_finds_every_form() -> None:
    secret = "p ss/wörd-0123456789-abcdef"
    for shown in (
        f"password={secret}!",
        f"https://user:{quote(secret, safe='')}@host",
        json.dumps({"password": secret}),
        f"Basic {base64.b64encode(f'admin:{secret}'.encode()).decode()}",
        f"Basic {base64.b64encode(f'gateway:{secret}'.encode()).decode()}",
        base64.b64encode(secret.encode()).decode(),
    ):
        assert leaks({"here": shown.encode()}, {"it": secret}) == ["it: in here"], shown
    assert leaks({"here": b"nothing"}, {"it": secret}) == []


@pytest.mark.parametrize("form", ["CONSOLE", "JSON"])
def test_a_traceback_in_the_log_shows_no_value(form: str) -> None:
    program = f"""
import structlog
from gatesync.cli.logs import configure_logs
from gatesync.config.settings import LogFormat, LogLevel
from gatesync.secret import Secret

def fails(password, wrapped):
    return [password, wrapped] + 1

configure_logs(LogFormat.{form}, LogLevel.DEBUG)
try:
    fails("hid" + "den", Secret("hid" + "den"))
except TypeError as error:
    structlog.get_logger().error("a request failed", exc_info=error, given=Secret("hid" + "den"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert b"in fails" in done.stderr
    assert b"hidden" not in done.stderr + done.stdout
