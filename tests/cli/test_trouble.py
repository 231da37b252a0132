"""Wrong input and a publisher that does not answer: one clear message, and nothing changes."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gatesync.artifacts.model import ARTIFACT_MAX_BYTES
from tests.servers.gatesync import (
    EXAMPLES,
    GATESYNC,
    Place,
    environment,
    free_ports,
    run,
    sequence_xml,
    until,
)

FOLDER = 'kind = "sequence"\nname = "{}"\nformat = "gatesync.folder/1"\n'
BOMB = b"""<!DOCTYPE s [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><sequence name="s">&c;</sequence>"""
EXTERNAL = (
    b'<?xml version="1.0"?>\n<!DOCTYPE s [<!ENTITY a SYSTEM "file:///etc/passwd">]><s>&a;</s>'
)
LARGE = sequence_xml("large", "x" * 16 * 1024 * 1024)
DEEP = b'<sequence name="deep">' + b"<a>" * 10_000 + b"</a>" * 10_000 + b"</sequence>"


def a_file(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "made.xml").write_bytes(content)
        return folder / "made.xml"

    return make


def a_folder(name: str, file: str = "sequences/made.xml") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / file).parent.mkdir()
        (folder / file).write_bytes(sequence_xml("made"))
        (folder / "artifact.toml").write_text(FOLDER.format(name))
        return folder

    return make


def a_link(folder: Path) -> Path:
    a_folder("made")(folder)
    (folder / "sequences" / "link.xml").symlink_to("/etc/passwd")
    return folder


def a_broken_toml(folder: Path) -> Path:
    a_folder("made")(folder)
    (folder / "artifact.toml").write_text('kind = "sequence"\nname = \n')
    return folder


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.xml")
    return folder / "pipe.xml"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(
            a_file(b"<sequence\n name='a'>\n<log>"), "made.xml:3: not well-f", id="broken"
        ),
        pytest.param(a_file(BOMB), "made.xml:1: a DOCTYPE is not accepted", id="entity bomb"),
        pytest.param(a_file(EXTERNAL), "made.xml:2: a DOCTYPE is not accepted", id="external"),
        pytest.param(a_file(DEEP), "nested more than 256 deep", id="deep"),
        pytest.param(a_file(LARGE), f"more than {ARTIFACT_MAX_BYTES} bytes", id="16 MiB"),
        pytest.param(a_file(b""), "made.xml: the document is empty", id="empty"),
        pytest.param(a_file(bytes(range(256))), "made.xml:1: ", id="no text"),
        pytest.param(a_file(sequence_xml("../x")), "'../x' contains a path step", id="walks up"),
        pytest.param(a_folder("../x"), "'../x' contains a path step", id="folder walks up"),
        pytest.param(a_folder("made", "odd/a.xml"), "odd/a.xml: not part of", id="no part"),
        pytest.param(a_link, "symbolic links are not followed", id="link"),
        pytest.param(a_broken_toml, "artifact.toml:2: not TOML", id="TOML"),
        pytest.param(a_pipe, "pipe.xml: neither a file nor a folder", id="pipe"),
        pytest.param(lambda folder: folder, "has an artifact.toml", id="no artifact.toml"),
        pytest.param(lambda folder: folder / "no", "there is no such file or folder", id="nothing"),
    ],
)
def test_what_cannot_be_published(
    cluster: Place, tmp_path: Path, name: str, make: Callable[[Path], Path], message: str
) -> None:
    path = make(tmp_path)
    done = cluster.run("publish", path, "-l", name)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert str(path) in done.err
    assert name not in {head["label"] for head in cluster.heads()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name at least one label with --label"),
        (("-l", ""), "label is empty; give 1 to 255 bytes"),
        (("-l", "x" * 256), "has 256 bytes; at most 255 are allowed"),
        (("-l", "é" * 128), "has 256 bytes; at most 255 are allowed"),
        (("-l", "a\nb"), r"label 'a\nb' contains a control character"),
        (("-l", b"\xff"), "is not valid Unicode"),
        (("-l", "l", "--tenant", "../x"), "tenant '../x' contains a path step"),
        (("-l", "l", "--expect", "-1"), "--expect"),
        (("-l", "l", "--no-such-option"), "--no-such-option"),
    ],
)
def test_wrong_options(
    cluster: Place, sequence: Path, options: tuple[str | bytes, ...], message: str
) -> None:
    heads = cluster.heads()
    done = cluster.run("publish", sequence, *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert cluster.heads() == heads


def test_a_path_of_odd_bytes(cluster: Place, tmp_path: Path, name: str) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.xml"
    with open(path, "wb") as file:  # noqa: PTH123 - bytes
        file.write(b"<broken")
    (tmp_path / "good.xml").write_bytes(sequence_xml(name))
    done = cluster.run(
        "publish", path, tmp_path / "good.xml", "-l", name, "--skip-invalid", "--json"
    )
    assert done.code == 0, done.err
    assert "not well-formed XML" in done.json()["refused"][0]


def test_two_that_claim_the_same_are_a_conflict(
    cluster: Place, tmp_path: Path, sequence: Path, name: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    a_folder(name)(folder)
    (folder / "sequences" / "made.xml").write_bytes(sequence_xml(name))
    toml = FOLDER.format(name) + 'api_id = "another"\n'
    (folder / "artifact.toml").write_text(toml)
    assert cluster.run("publish", sequence, "-l", name).code == 0
    heads = cluster.heads()

    done = cluster.run("publish", folder, "-l", name)

    assert (done.code, done.out) == (2, "")
    assert f"'{name}'" in done.err
    assert cluster.heads() == heads


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("gst_wrong", "a valid token is needed"),
        ("é", "the token holds a line break or a letter that no token has"),
        ("gst_abc\nX: y", "the token holds a line break or a letter that no token has"),
    ],
)
def test_a_wrong_token(cluster: Place, token: str, message: str) -> None:
    done = cluster.run("list", GATESYNC_TOKEN=token)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert token not in done.err.replace("the token", "")
    assert "gst_abc" not in done.err


def test_no_token(cluster: Place, tmp_path: Path) -> None:
    done = run(tmp_path, "list", GATESYNC_PUBLISHER=cluster.publisher)
    assert (done.code, done.out) == (2, "")
    assert "a valid token is needed" in done.err
    assert "set GATESYNC_TOKEN, or run in the folder whose publisher" in done.err


@pytest.mark.parametrize(
    "url",
    [
        "no url",
        "ftp://host",
        "http://",
        "http://host:99999",
        "http://[::1",
        "http://é/",
        "nats://h",
    ],
)
def test_what_is_no_url_of_a_publisher(tmp_path: Path, url: str) -> None:
    done = run(tmp_path, "list", "--publisher", url)
    assert (done.code, done.out) == (2, "")
    assert "is not a URL of a service; write http://HOST:PORT" in done.err


@pytest.mark.parametrize("command", ["list", "publish"])
def test_a_publisher_that_is_not_there(tmp_path: Path, command: str) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    more = {"list": (), "publish": (EXAMPLES / "pizzashack", "-l", "l")}[command]
    began = time.monotonic()
    done = run(tmp_path, command, *more, "--publisher", url, "--json")
    assert (done.code, done.out) == (3, "")
    assert f"{url} cannot be reached" in done.err
    assert "start one with 'gatesync up', or name one with --publisher" in done.err
    assert time.monotonic() - began < 20


def test_something_else_that_answers_there(cluster: Place, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{cluster.broker_port}"
    done = run(tmp_path, "list", "--publisher", url)
    assert (done.code, done.out) == (3, "")
    assert f"{url} cannot be reached" in done.err


def test_a_client_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "gatesync-data").mkdir()
    (tmp_path / "gatesync-data" / "client.toml").write_text("publisher = ")
    done = run(tmp_path, "list")
    assert (done.code, done.out) == (2, "")
    assert "gatesync-data/client.toml cannot be read" in done.err


@pytest.mark.parametrize("command", [("up",), ("gateway",), ("config", "show"), ("token", "list")])
def test_a_configuration_that_is_wrong(tmp_path: Path, command: tuple[str, ...]) -> None:
    file = tmp_path / "deployment.toml"
    file.write_text('[gatesync]\nheartbeat_interval = "soon"\n')
    option = () if command == ("config", "show") else ("-c",)
    done = run(tmp_path, *command, *option, file)
    assert (done.code, done.out) == (2, "")
    assert f"{file}:2: gatesync.heartbeat_interval: must be a whole number" in done.err
    missing = run(tmp_path, *command, *option, tmp_path / "missing.toml")
    assert (missing.code, missing.out) == (2, "")
    assert "missing.toml" in missing.err


def test_config_check_says_everything_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "deployment.toml"
    file.write_text('[gatesync]\nheartbeat_interval = "soon"\nlog_level = "loud"\n')
    done = run(tmp_path, "config", "check", file, "--json")
    assert done.code == 2
    assert len(done.json()["problems"]) == 2
    assert len(done.err.splitlines()) == 2
    file.write_text("[gatesync]\nheartbeat_intervall = 1\n[user_store]\ntype = 'x'\n")
    good = run(tmp_path, "config", "check", file)
    assert good.code == 0
    warning, note, verdict = good.out.splitlines()
    assert warning == (
        f"warning: {file}:2: gatesync.heartbeat_intervall: is not a key that gatesync knows; "
        "did you mean gatesync.heartbeat_interval?"
    )
    assert note == "not read by gatesync: [user_store]"
    assert verdict == "the configuration is good"
    (listed,) = run(tmp_path, "config", "check", file, "--json").json()["warnings"]
    assert f"warning: {listed}" == warning


def test_a_role_logs_what_is_doubtful_in_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "deployment.toml"
    file.write_text("[gatesync]\nheartbeat_intervall = 1\n")
    done = run(tmp_path, "gateway", "--config", file)  # which ends for want of a token
    assert done.code == 2
    assert f"{file}:2: gatesync.heartbeat_intervall: is not a key" in done.err


def test_a_token_where_no_publisher_has_run_is_made_with_a_word_of_doubt(tmp_path: Path) -> None:
    made = run(tmp_path, "token", "create", "--id", "a", "--role", "read")
    assert (made.code, len(made.out.split())) == (0, 1)
    assert f"{tmp_path / 'gatesync-data' / 'tokens.json'} is new" in made.err
    again = run(tmp_path, "token", "create", "--id", "b", "--role", "read")
    assert (again.code, again.err) == (0, "")


def test_a_token_for_what_is_no_role_or_no_node(tmp_path: Path) -> None:
    role = run(tmp_path, "token", "create", "--id", "a", "--role", "king")
    assert (role.code, role.out) == (2, "")
    assert "--role 'king' is unknown; it is one of" in role.err
    node = run(tmp_path, "token", "create", "--id", "../a", "--label", "l")
    assert (node.code, node.out) == (2, "")
    assert "node id '../a' must be 1 to 64 letters" in node.err
    revoked = run(tmp_path, "token", "revoke", "nobody")
    assert (revoked.code, revoked.out) == (2, "")
    assert "nobody" in revoked.err


@pytest.mark.parametrize("command", ["list", "list --json", "config show"])
def test_an_answer_that_cannot_be_written(cluster: Place, command: str) -> None:
    full = in_a_shell(cluster, f"{GATESYNC} {command} > /dev/full")
    assert full.returncode == 3
    assert full.stderr == "gatesync: the answer cannot be written: No space left on device\n"
    closed = in_a_shell(cluster, f"{GATESYNC} {command} >&-")
    assert (closed.returncode, closed.stderr) == (0, "")


def in_a_shell(cluster: Place, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        cwd=cluster.folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_token_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "gatesync-data").write_text("a file is here")
    done = run(tmp_path, "token", "create", "--id", "a", "--label", "l")
    assert done.code in {2, 3}
    assert done.out == ""
    assert "gatesync-data" in done.err


def test_a_wait_that_is_interrupted(cluster: Place, sequence: Path, name: str) -> None:
    command = [GATESYNC, "publish", sequence, "-l", name, "--wait", "all"]
    with subprocess.Popen(
        command,
        cwd=cluster.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        until(lambda: name in {head["label"] for head in cluster.heads()}, "it is published")
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, out) == (130, "")
    assert "Traceback" not in err
