"""docs/security.md: how each credential is changed, followed step by step on real processes.

After each, the old one opens nothing any more, the new one does, and the gateway is in step.
"""

import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from gatesync.events.nats_credentials import BrokerUser, read_credentials
from tests.attacks.handshakes import broker_handshake, broker_lets_in
from tests.docs.following import Following, typed_in
from tests.servers.gatesync import Place, ask, document, place, publishing, until
from tests.servers.postgresql import PostgresqlProcess
from tests.web.certificates import LOOPBACK, Authority

pytestmark = pytest.mark.promise(8)

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
LABEL = "Production"
FIRST = "the first password"


class Cluster(Following):
    """As the page has it: the three roles on one machine, a database, TLS, an environment."""

    def __init__(self, made: Place, database: str) -> None:
        self.authority = Authority(made.folder / "authority")
        self.published: set[str] = set()
        made.publisher = made.publisher.replace("http:", "https:")
        made.gateway = made.gateway.replace("http:", "https:")
        names = ("traffic-manager", "publisher", "gateway")
        super().__init__(made, {name: made.role(name) for name in names})
        pair = self.authority.issue("publisher", *LOOPBACK)
        pair.certificate.rename(made.folder / "publisher.pem")
        pair.key.rename(made.folder / "publisher.key")
        for name in ("database.password", "push.password"):
            (made.folder / name).touch(0o600)
            (made.folder / name).write_text(FIRST)
        text = made.config.read_text()
        text = text.replace(
            "[gatesync.gateway]\n", '[gatesync.gateway]\npush_token = "$secret{push}"\n'
        )
        text = text.replace("gateway_labels", 'artifact_retriever = "http"\ngateway_labels')
        url = make_url(database)
        made.config.write_text(
            f"{text}"
            '[gatesync.tls]\ncertificate = "publisher.pem"\nkey = "publisher.key"\n'
            f'ca = "{self.authority.file}"\n'
            "[gatesync.secrets]\n"
            'database = { file = "database.password" }\npush = { file = "push.password" }\n'
            "[database.sync_runtime_artifacts_db]\n"
            f'url = "jdbc:postgresql://127.0.0.1:{url.port}/{url.database}"\n'
            'username = "apim"\npassword = "$secret{database}"\n'
            f'[[apim.gateway.environment]]\nname = "E"\nlabels = ["{LABEL}"]\n'
            f'service_url = "{made.gateway}"\npassword = "$secret{{push}}"\n'
        )

    def start(self) -> None:
        for name in ("traffic-manager", "publisher"):
            self.roles[name].start()
        self.place.give_token(self.place, LABEL)
        self.roles["gateway"].start()

    def follow_section(self, title: str) -> None:
        for block in typed_in(section(title)):
            self.follow(block)

    def trust(self, public: str, *, alone: bool = False) -> None:
        """Write a key into the gateway's file, beside those that are there or in their place."""
        text = self.place.config.read_text()
        before = text.partition("[[gatesync.trusted_keys]]")[0] if alone else text
        self.place.config.write_text(f'{before}[[gatesync.trusted_keys]]\nkey = "{public}"\n')

    def in_step(self) -> None:
        """A new change comes to the gateway by the broker, by push, and is served."""
        self.published.add(name := f"n{len(self.published)}")
        body = publishing(document(name), label=LABEL)
        answer = self.place.ask("/v1/changes", method="POST", body=body)
        assert answer.status == 200, answer.body
        until(lambda: set(self.place.held()) == self.published, "the gateway serves all of it")
        until(lambda: self.gateway()["connected"], "the gateway hears the broker")
        until(lambda: self.environment_answers(), "the environment is pushed to")

    def gateway(self) -> dict[str, object]:
        found: dict[str, object] = ask(self.place.gateway, "/health/ready").json()
        return found

    def environment_answers(self) -> bool:
        (found,) = self.place.ask("/v1/gateways").json()["environments"]
        return bool(found["node"]) and not found["failures"]

    def is_let_in(self, who: BrokerUser) -> bool:
        """By the broker, with a password."""
        context = ssl.create_default_context(cafile=str(self.authority.file))
        port = self.place.broker_port
        try:
            return broker_lets_in("127.0.0.1", port, context, who.user, who.password)
        except ConnectionError:
            return False

    def status(self, token: str, path: str = f"/v1/heads?label={LABEL}", url: str = "") -> int:
        return ask(url or self.place.publisher, path, token=token).status


def section(title: str) -> str:
    found = PAGE.read_text().partition(f"### {title}\n")[2]
    assert found, title
    return re.split(r"\n#{2,3} ", found)[0]


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, postgresql: PostgresqlProcess
) -> Iterator[Cluster]:
    execute(postgresql, f"CREATE ROLE apim LOGIN PASSWORD '{FIRST}'")
    try:
        with postgresql.database() as database:
            execute(postgresql, f"ALTER DATABASE {make_url(database).database} OWNER TO apim")
            with place(tmp_path_factory.mktemp("security"), labels=[LABEL]) as made:
                followed = Cluster(made, database)
                followed.start()
                followed.in_step()
                yield followed
    finally:
        execute(postgresql, "DROP ROLE apim")


def execute(server: PostgresqlProcess, statement: str) -> None:
    connection = server.connect()
    try:
        connection.execute(statement.encode())
    finally:
        connection.close()


def test_a_nodes_token(cluster: Cluster) -> None:
    old = cluster.place.node_token()
    cluster.follow_section("A node's token, and with it its key at the broker")
    assert cluster.place.node_token() != old
    assert cluster.status(old) == 401
    assert cluster.status(cluster.place.node_token()) == 200
    cluster.in_step()


def test_a_pipelines_token(cluster: Cluster) -> None:
    old = cluster.place.create_token("publish", "pipeline")
    cluster.follow_section("A token of a person or a pipeline")
    assert cluster.status(old) == 401
    cluster.in_step()


def test_the_publishers_password_at_the_broker(cluster: Cluster) -> None:
    old = read_credentials(cluster.place.data).publisher
    assert cluster.is_let_in(old)
    cluster.follow_section("The publishers' password at the broker")
    until((cluster.place.data / "broker-credentials.json").exists, "the broker has made it anew")
    new = read_credentials(cluster.place.data).publisher
    assert new.password != old.password
    until(lambda: cluster.is_let_in(new), "the broker is back")
    assert not cluster.is_let_in(old)
    cluster.in_step()


def test_the_databases_password(cluster: Cluster, postgresql: PostgresqlProcess) -> None:
    title = "The database's password"
    (statement,) = re.findall(r"```sql\n(.*?)```", section(title), re.DOTALL)
    execute(postgresql, statement)
    cluster.follow_section(title)
    text = cluster.place.config.read_text()
    database = re.findall(r"jdbc:postgresql://[^/]*/(\w+)", text)[0]
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(
            host="127.0.0.1",
            port=postgresql.port,
            user="apim",
            password=FIRST,
            dbname=database,
        )
    cluster.in_step()


def test_a_key_that_signs(cluster: Cluster) -> None:
    create, change, take_out = typed_in(section("A key that signs"))
    first = cluster.place.run("keys", "create", "--json", "-c", cluster.place.config).json()
    cluster.ids["9e7ce3298fda62b5"] = first["key_id"]
    assert cluster.place.run("keys", "sign", "--unsigned").code == 0
    cluster.trust(first["public"])
    cluster.follow(["$ systemctl reload gatesync-gateway"])
    cluster.in_step()

    cluster.follow(create)
    cluster.trust(cluster.known(create[1]))
    cluster.follow(change)
    cluster.trust(cluster.known(create[1]), alone=True)
    cluster.follow(take_out)

    cluster.in_step()
    cluster.follow(["$ systemctl restart gatesync-gateway"])
    assert set(cluster.place.held()) == cluster.published
    cluster.in_step()


def test_a_servers_certificate(cluster: Cluster) -> None:
    renewed = cluster.authority.issue("renewed", *LOOPBACK)
    for path in renewed:
        path.rename(cluster.place.folder / path.name)
    cluster.follow_section("A server's certificate and its key")
    shown = ssl.PEM_cert_to_DER_cert((cluster.place.folder / "renewed.pem").read_text())
    context = ssl.create_default_context(cafile=str(cluster.authority.file))
    port = cluster.place.broker_port
    until(lambda: broker_handshake("127.0.0.1", port, context) == shown, "the broker shows it")
    cluster.in_step()


def test_what_environments_are_pushed_to_with(cluster: Cluster) -> None:
    cluster.follow_section("What environments are pushed to with")
    path, url = "/v1/events", cluster.place.gateway
    new = (cluster.place.folder / "push.password").read_text().strip()
    for token, status in ((FIRST, 401), (new, 400)):
        answer = ask(url, path, method="POST", body=b"no event", token=token)
        assert answer.status == status
    cluster.in_step()


def test_a_gateways_admin_token(cluster: Cluster) -> None:
    old = cluster.place.admin_token()
    cluster.follow_section("A gateway's admin token")
    url = cluster.place.gateway
    assert cluster.status(old, "/v1/held", url) == 401
    assert cluster.status(cluster.place.admin_token(), "/v1/held", url) == 200
    cluster.in_step()


def test_each_section_is_followed_by_a_test() -> None:
    told = PAGE.read_text().partition("## Changing a credential\n")[2]
    titles = re.findall(r"^### (.*)$", re.split(r"\n## ", told)[0], re.MULTILINE)
    tests = Path(__file__).read_text()
    assert len(titles) >= 7
    assert [title for title in titles if f'"{title}"' not in tests] == []
