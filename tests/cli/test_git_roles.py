"""A publisher that stores in Git, a gateway that reads Git, and one that asks the publisher."""

import hashlib
import hmac
import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gatesync.config.git import GIT_TABLE
from tests.servers.gatesync import Answer, Place, ask, place, sequence_xml
from tests.servers.git_http import GitHttp, git_http
from tests.servers.git_person import Person, login_url, sequence_files
from tests.stores.git.bench import made_repository

LABEL = "Production and Sandbox"
LOGIN = ("gatesync", "p@ss:word")
SECRET = "0123456789abcdef" * 2
NEVER_MS = 24 * 60 * 60 * 1000  # no poll: whatever arrives, a webhook or an event told of
GATEWAY = "[apim.sync_runtime_artifacts.gateway]\n"


class Cluster(NamedTuple):
    """A publisher with a gateway of its own, and a gateway elsewhere that reads Git."""

    server: GitHttp
    control: Place
    node: Place

    def told(self, url: str, **changed: Any) -> Answer:
        """A webhook as GitHub sends it."""
        body = json.dumps({"ref": "refs/heads/main", "id": str(uuid.uuid4())} | changed).encode()
        signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-Hub-Signature-256": signature, "X-GitHub-Event": "push"}
        return ask(url, "/hooks/git", method="POST", body=body, headers=headers)

    def both_hold(self, *names: str) -> bool:
        return all(set(each.held()) == set(names) for each in (self.control, self.node))


def git_table(server: GitHttp, poll_ms: int = NEVER_MS) -> str:
    keys: dict[str, str | int] = {
        "url": server.url(),
        "username": LOGIN[0],
        "password": LOGIN[1],
        "poll_interval": poll_ms,
        "webhook_secret": SECRET,
    }
    return f"[{GIT_TABLE}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in keys.items())


def store_in_git(there: Place, server: GitHttp, **options: int) -> None:
    saver = '[apim.sync_runtime_artifacts.publisher]\nartifact_saver = "GitSaver"\n'
    with there.config.open("a") as file:
        file.write(saver + git_table(server, **options))


def read_git(there: Place, server: GitHttp, **options: int) -> None:
    text = there.config.read_text().replace(
        GATEWAY, GATEWAY + 'artifact_retriever = "GHSynchronizerRetriever"\n'
    )
    there.config.write_text(text + git_table(server, **options))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        server = stack.enter_context(git_http(tmp_path / "git", login=LOGIN))
        server.create()
        control = stack.enter_context(place(tmp_path / "control"))
        publisher = control.publisher
        node = stack.enter_context(place(tmp_path / "node", node="gw2", publisher=publisher))
        store_in_git(control, server)
        read_git(node, server)
        yield Cluster(server, control, node)


@pytest.mark.promise(1)
@pytest.mark.promise(6)
@pytest.mark.timeout(240)
def test_what_is_published_and_what_people_push_reaches_gateways_of_both_kinds(
    cluster: Cluster, tmp_path: Path
) -> None:
    server, control, node = cluster
    up = control.role("up").start()
    control.give_token(node, LABEL)
    gateway = node.role("gateway").start()
    assert f"branch main of {server.url()}" in gateway.said()

    # Published: a commit, for people too.
    (tmp_path / "control" / "seen.xml").write_bytes(sequence_xml("seen"))
    done = control.run("publish", "seen.xml", "--label", LABEL, "--wait", "all")
    assert (done.code, done.err) == (0, ""), done.err
    assert cluster.both_hold("seen")
    person = Person(login_url(server), tmp_path / "clone")
    assert person.git("log", "-1", "--format=%s").strip() == f"Publish seen to {LABEL}"

    # Pushed: a webhook tells, and only who knows the secret.
    person.write(sequence_files(LABEL, "pushed"))
    person.push("A sequence of mine")
    stranger = ask(control.publisher, "/hooks/git", method="POST", body={"ref": "x"})
    assert stranger.status == 401
    assert "webhook_secret" in stranger.reasons
    assert cluster.told(control.publisher, ref="refs/heads/other").json()["status"].startswith("ig")
    told = cluster.told(control.publisher)
    assert (told.status, told.json()["status"]) == (200, "looking at the branch")
    gateway.wait_for(lambda: cluster.both_hold("seen", "pushed"), "the push is served")

    # Pushed, and wrong: told, and the others go on. What was there before is served.
    broken = sequence_files(LABEL, "pushed") | sequence_files(LABEL, "fine")
    (place_of_xml,) = (name for name in broken if name.endswith("pushed.xml"))
    person.write(broken | {place_of_xml: b"<sequence"})
    person.push("Half a file")
    cluster.told(control.publisher)
    gateway.wait_for(lambda: cluster.both_hold("seen", "pushed", "fine"), "the rest is served")
    assert place_of_xml in control.ask("/health/ready").json()["not_served"]
    assert "not_served" not in ask(control.publisher, "/health/ready").json()
    assert control.run("verify").code == 0

    # Mended, with no publisher and no broker: who reads Git needs neither.
    assert up.stop() == 0
    person.write(sequence_files(LABEL, "pushed", "mended"))
    person.push("The whole file")
    before = node.held()
    assert cluster.told(node.gateway).status == 200
    gateway.wait_for(lambda: node.held()["pushed"] != before["pushed"], "it is read from Git")
    assert set(node.held()) == {"seen", "pushed", "fine"}

    up.start()
    gateway.wait_for(lambda: control.held() == node.held(), "everyone is in step again")
    gateway.wait_for(lambda: control.run("verify").code == 0, "and says so")
    for role in (gateway, up):
        assert role.stop() == 0
        assert "Traceback" not in role.said()
        assert LOGIN[1] not in role.said()
        assert SECRET not in role.said()


def test_a_publisher_whose_login_is_refused_says_so(tmp_path: Path) -> None:
    with git_http(tmp_path / "git", login=("gatesync", "another")) as server:
        server.create()
        with place(tmp_path / "control") as control:
            store_in_git(control, server)
            done = control.run("publisher", "--config", control.config)
    assert done.code == 3
    assert f"branch main of {server.url()}" in done.err
    assert "check username and password (or token)" in done.err
    assert LOGIN[1] not in done.err


@pytest.mark.promise(8)
def test_what_somebody_pushes_is_not_deployed_where_keys_are_trusted_until_a_publisher_signs_it(
    tmp_path: Path,
) -> None:
    url = made_repository(tmp_path / "server.git")
    table = f"[{GIT_TABLE}]\nurl = '{url}'\npoll_interval = 500\n"
    with place(tmp_path / "one", labels=["Shop"]) as node:
        text = node.config.read_text().replace(
            GATEWAY, GATEWAY + 'artifact_retriever = "GitRetriever"\n'
        )
        key = node.run("keys", "create", "--json").json()["public"]
        saver = '[apim.sync_runtime_artifacts.publisher]\nartifact_saver = "GitSaver"\n'
        trusted = f"[[gatesync.trusted_keys]]\nkey = '{key}'\n"
        node.config.write_text(text + saver + table + trusted)
        up = node.role("up").start()
        (node.folder / "signed.xml").write_bytes(sequence_xml("signed"))
        assert node.run("publish", "signed.xml", "--label", "Shop", "--wait", "all").code == 0

        person = Person(url, tmp_path / "clone")
        person.write(sequence_files("Shop", "pushed"))
        person.push("A sequence that nobody signed")
        refused = "is not signed by a key that this node trusts"
        up.wait_for(lambda: refused in up.said(), "it is refused")
        assert set(node.held()) == {"signed"}

        assert node.run("keys", "sign", "--unsigned").code == 0
        up.wait_for(lambda: set(node.held()) == {"signed", "pushed"}, "what is signed is served")
