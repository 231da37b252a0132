import json
from pathlib import Path

import pytest

from gatesync.config import describe
from gatesync.config.git import GIT_TABLE, GitSettings
from gatesync.stores.git_source import GitSource
from tests.config.conftest import Reading

pytestmark = pytest.mark.fast

HTTPS = "https://git.example.com/team/apis.git"
SSH = "git@git.example.com:team/apis.git"


def table(**keys: object) -> str:
    lines = (f"{name} = {json.dumps(value)}" for name, value in keys.items())
    return f"[{GIT_TABLE}]\n" + "\n".join(lines) + "\n"


def git(reading: Reading, **keys: object) -> GitSettings:
    return reading.load(table(**keys)).settings.git


def source(reading: Reading, **keys: object) -> GitSource:
    found = git(reading, **({"url": HTTPS} | keys)).source
    assert found is not None
    return found


def said(reading: Reading, **keys: object) -> str:
    problem = reading.problem(table(**keys))
    assert problem.line > 1
    return f"{problem.key.removeprefix(f'{GIT_TABLE}.')}: {problem.message}"


def test_without_a_url_there_is_no_repository(reading: Reading) -> None:
    assert git(reading) == GitSettings(source=None, webhook_secret=None)


def test_a_url_alone_is_enough(reading: Reading, tmp_path: Path) -> None:
    found = source(reading)

    assert found == GitSource(url=found.url, cache=tmp_path / "gatesync-data" / "git")
    assert found.url.reveal() == HTTPS
    assert str(found) == f"branch main of {HTTPS}"


def test_every_key_reaches_the_store(reading: Reading, tmp_path: Path) -> None:
    found = source(
        reading,
        branch="release/2",
        path="apis/production/",
        username="deploy",
        password="s3cret",
        ca="ca.pem",
        author="API team <apis@example.com>",
        signing_key="signing",
        allowed_signers="/etc/gatesync/signers",
        poll_interval="500",
        timeout=2_000,
    )

    assert (found.branch, found.path) == ("release/2", "apis/production")
    assert found.username == "deploy"
    assert found.password is not None
    assert found.password.reveal() == "s3cret"
    assert found.ca == tmp_path / "ca.pem"
    assert (found.author_name, found.author_email) == ("API team", "apis@example.com")
    assert found.signing_key == tmp_path / "signing"
    assert found.allowed_signers == Path("/etc/gatesync/signers")
    assert (found.poll_seconds, found.timeout) == (0.5, 2.0)


def test_ssh_takes_a_key_and_known_hosts(reading: Reading, tmp_path: Path) -> None:
    for url in (SSH, "ssh://git@git.example.com:2222/team/apis.git", "ssh://git.example.com/a.git"):
        found = source(reading, url=url, ssh_key="key", known_hosts="hosts")
        assert found.url.reveal() == url
        assert (found.ssh_key, found.known_hosts) == (tmp_path / "key", tmp_path / "hosts")


def test_a_folder_is_a_file_url(reading: Reading) -> None:
    assert source(reading, url="/srv/git/our apis.git").url.reveal() == (
        "file:///srv/git/our%20apis.git"
    )


def test_a_login_in_the_url_is_taken_out_of_it(reading: Reading) -> None:
    found = source(reading, url="https://deploy:s3%40cret@git.example.com:8443/apis.git")

    assert found.url.reveal() == "https://git.example.com:8443/apis.git"
    assert found.username == "deploy"
    assert found.password is not None
    assert found.password.reveal() == "s3@cret"


def test_a_token_is_a_password(reading: Reading) -> None:
    loaded = reading.load(table(url=HTTPS, token="$env{GIT_TOKEN}"), {"GIT_TOKEN": "glpat-x"})
    found = loaded.settings.git.source
    assert found is not None
    assert found.password is not None
    assert found.password.reveal() == "glpat-x"


def test_secrets_do_not_show(reading: Reading) -> None:
    words = ["hidden1", "hidden2-of-the-webhook", "hidden3"]
    in_url = table(url=f"https://u:{words[0]}@h.example/a", webhook_secret=words[1])
    as_key = table(url=HTTPS, username="u", password=words[2])
    for text in (in_url, as_key):
        loaded = reading.load(text)
        shown = str(describe(loaded)) + repr(loaded.settings.git)
        assert not [word for word in words if word in shown]


def test_who_one_is_for_ssh_is_no_secret(reading: Reading) -> None:
    loaded = reading.load(table(url=SSH))
    (shown,) = (each.value for each in describe(loaded) if each.key == f"{GIT_TABLE}.url")
    assert shown == SSH
    assert str(loaded.settings.git.source) == f"branch main of {SSH}"


def test_plain_http_stays_on_this_machine(reading: Reading) -> None:
    assert source(reading, url="http://127.0.0.1:8080/apis.git").allow_plaintext is False
    assert "plain http beyond this machine" in said(reading, url="http://git.example.com/a.git")
    allowed = "[gatesync]\nallow_plaintext = true\n"
    loaded = reading.load(allowed + table(url="http://git.example.com/a.git"))
    assert loaded.settings.git.source is not None
    assert loaded.settings.git.source.allow_plaintext


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"url": "apis.git"}, "url: must be https://HOST/PATH, ssh://USER@HOST/PATH, USER"),
        ({"url": "git://h.example/a"}, "url: must be https://"),
        ({"url": "ext::sh -c x"}, "url: must be https://"),
        ({"url": "--upload-pack=x:y"}, "url: must be https://"),
        ({"url": "-oProxyCommand=x:y"}, "url: must be https://"),
        ({"url": "https://h.example/a b"}, "without spaces"),
        ({"url": "https://h.example"}, "url: must be https://"),
        ({"url": "https://h.example:99999/a"}, "with a port from 0 to 65535"),
        ({"url": "https://h.example/a?x=1"}, "url: must have no ? and no #"),
        ({"url": "ssh://git:pw@h.example/a"}, "url: must hold no password"),
        ({"url": "file://h.example/a"}, "url: must be file:///PATH"),
        ({"branch": "a..b"}, 'branch: must be the name of a branch, such as "main"'),
        ({"branch": "-f"}, "branch: must be the name"),
        ({"branch": "refs/heads/main"}, "branch: must be the name"),
        ({"branch": "a:b"}, "branch: must be the name"),
        ({"branch": "x.lock"}, "branch: must be the name"),
        ({"path": "/apis"}, "path: must be a folder inside the repository"),
        ({"path": "apis/../.."}, "path: must be a folder inside"),
        ({"path": "apis/.GIT"}, "path: must be a folder inside"),
        ({"author": "gatesync"}, "author: must be a name and an address"),
        ({"author": "a\nb <a@b>"}, "author: must be a name and an address"),
        ({"author": " <a@b>"}, "author: must be a name and an address"),
        ({"username": "u", "password": "p", "token": "t"}, "token: cannot stand beside password"),
        ({"url": "https://u:p@h.example/a", "token": "t"}, "url: holds a password, and another"),
        ({"username": "u"}, "username: has no password or token beside it"),
        ({"url": SSH, "password": "p"}, "password: is for https, and the url is of ssh"),
        ({"url": SSH, "token": "p"}, "token: is for https, and the url is of ssh"),
        ({"url": "/srv/a.git", "ca": "ca.pem"}, "ca: is for https, and the url is of file"),
        ({"ssh_key": "k"}, "ssh_key: is for ssh, and the url is of https"),
        ({"known_hosts": "k"}, "known_hosts: is for ssh, and the url is of https"),
        ({"poll_interval": 99}, "poll_interval: must be a whole number of milliseconds from 100"),
        ({"timeout": 999}, "timeout: must be a whole number of milliseconds from 1000"),
        ({"webhook_secret": "short"}, "webhook_secret: must have at least 16 characters"),
        ({"webhook_secret": "ü" * 16}, "webhook_secret: must have at least 16 characters"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place(
    reading: Reading, keys: dict[str, object], expected: str
) -> None:
    assert expected in said(reading, **({"url": HTTPS} | keys))


@pytest.mark.parametrize("key", ["token", "ssh_key", "signing_key", "webhook_secret"])
def test_a_forgotten_url_is_missed(reading: Reading, key: str) -> None:
    problem = reading.problem(table(**{key: "0123456789abcdef"}))
    assert problem.key == f"{GIT_TABLE}.url"
    assert "is needed beside the other keys" in problem.message


@pytest.mark.parametrize(
    ("role", "key", "name"),
    [
        ("publisher", "artifact_saver", "GitSaver"),
        ("publisher", "artifact_saver", "GHSynchronizerSaver"),
        ("gateway", "artifact_retriever", "GitRetriever"),
        ("gateway", "artifact_retriever", "GHSynchronizerRetriever"),
    ],
)
def test_who_uses_git_has_to_say_where(reading: Reading, role: str, key: str, name: str) -> None:
    using = f'[apim.sync_runtime_artifacts.{role}]\n{key} = "{name}"\n'

    problem = reading.problem(using)

    assert (problem.key, problem.line) == (f"apim.sync_runtime_artifacts.{role}.{key}", 2)
    assert problem.message == f"is {name}, which needs a repository: the key url in [{GIT_TABLE}]"
    assert reading.load(using + table(url=HTTPS)).warnings == ()


def test_a_wrong_url_is_one_problem(reading: Reading) -> None:
    using = '[apim.sync_runtime_artifacts.publisher]\nartifact_saver = "GitSaver"\n'
    problem = reading.problem(using + table(url="nowhere", token="x"))
    assert (problem.key, problem.line) == (f"{GIT_TABLE}.url", 4)
