"""TLS between real processes: `up --tls`, one's own certificates, and what is said of bad ones.

Certificates are rotated in tests/attacks/test_tls_rotation.py.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.gatesync import LABEL, Place, Role, place, sequence_xml, until
from tests.web.certificates import LOOPBACK, Authority


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path / "here") as made:
        (made.folder / "a.xml").write_bytes(sequence_xml("a"))
        (made.folder / "b.xml").write_bytes(sequence_xml("b"))
        yield made


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def up(here: Place, *arguments: str) -> Role:
    """All roles in one, ready over TLS."""
    here.publisher = here.publisher.replace("http:", "https:")
    command = ("up", "--config", str(here.config), *arguments)
    role = Role(here.folder, command, (), here.role("up")._env)
    here.started.append(role)
    before = role.said().count("gatesync is up")
    role.start()
    role.wait_for(lambda: role.said().count("gatesync is up") > before, "it is up")
    return role


def publish(here: Place, file: str, **env: str) -> Any:
    return here.run("publish", file, "-l", LABEL, "--wait", "all", "--timeout", "30s", **env)


def with_certificates(here: Place, **files: Path) -> None:
    lines = "".join(f'{name} = "{path}"\n' for name, path in files.items())
    here.config.write_text(f"{here.config.read_text()}[gatesync.tls]\n{lines}")


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_up_with_tls_publishes_with_the_commands_that_it_prints(here: Place) -> None:
    role = up(here, "--tls")
    assert f"publisher {here.publisher}, gateway https://" in role.said()

    done = publish(here, "a.xml")

    assert done.code == 0, done.err + role.said()
    told = tomllib.loads((here.data / "client.toml").read_text())
    assert (told["publisher"], told["ca"]) == (here.publisher, "tls/ca.pem")
    assert f"url=tls://127.0.0.1:{here.broker_port}" in role.said().replace("\x1b[0m", "")
    for name in ("ca.key", "server.key"):
        assert (here.data / "tls" / name).stat().st_mode & 0o777 == 0o600
    assert b"INFO" not in plain(port_of(here.publisher)) + plain(port_of(here.gateway))
    known = (here.data / "tls" / "ca.pem").read_bytes()
    role.stop()
    again = up(here, "--tls")
    assert publish(here, "b.xml").code == 0, again.said()
    assert (here.data / "tls" / "ca.pem").read_bytes() == known


def plain(port: int) -> bytes:
    """What a server answers to plain HTTP."""
    import socket

    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            return connection.recv(100)
        except ConnectionError:
            return b""


def test_the_command_line_says_what_is_wrong_with_tls(
    here: Place, authority: Authority, tmp_path: Path
) -> None:
    pair = authority.issue("server", *LOOPBACK)
    with_certificates(here, certificate=pair.certificate, key=pair.key, ca=authority.file)
    up(here)
    stranger = Authority(tmp_path / "stranger", "stranger").file
    assert publish(here, "a.xml").code == 0

    cases = [
        ({"GATESYNC_CA": str(stranger)}, 3, "authority that is not trusted here"),
        ({"GATESYNC_PUBLISHER": here.publisher.replace("https", "http")}, 3, "write https://"),
        ({"GATESYNC_CA": str(tmp_path / "gone.pem")}, 2, "gone.pem: cannot be read"),
    ]
    for env, code, said in cases:
        done = here.run("labels", **env)
        assert (done.code, said in done.err) == (code, True), done.err
        assert done.err.count("gatesync:") == 1, done.err
    assert here.run("--ca", authority.file, "labels").code == 0


@pytest.mark.parametrize(
    ("host", "minutes", "said"),
    [("elsewhere.example", 60, "is not for this host"), ("127.0.0.1", -1, "has expired")],
)
def test_the_command_line_refuses_a_bad_certificate(
    here: Place, authority: Authority, host: str, minutes: int, said: str
) -> None:
    pair = authority.issue("server", host, minutes=minutes)
    with_certificates(here, certificate=pair.certificate, key=pair.key)
    text = here.config.read_text()
    here.config.write_text(f"[apim.event_hub]\nenable = false\n{text}")
    here.role("publisher").start(wait=False)
    url = here.publisher.replace("http:", "https:")
    done = until(
        lambda: (
            found if "attempts failed" not in (found := labels(here, url, authority)).err else None
        ),
        "it listens",
    )
    assert (done.code, said in done.err) == (3, True), done.err


def labels(here: Place, url: str, authority: Authority) -> Any:
    return here.run("--ca", authority.file, "labels", GATESYNC_PUBLISHER=url)


def test_mutual_tls_lets_in_only_who_has_a_certificate(
    here: Place, authority: Authority, tmp_path: Path
) -> None:
    server, client = authority.issue("server", *LOOPBACK), authority.issue("client")
    with_certificates(
        here,
        certificate=server.certificate,
        key=server.key,
        client_ca=authority.file,
        ca=authority.file,
        client_certificate=client.certificate,
        client_key=client.key,
    )
    role = up(here)

    refused = here.run("labels")
    assert refused.code == 3
    assert "only who has a certificate" in refused.err
    assert "GATESYNC_CERT" in refused.err

    stranger = Authority(tmp_path / "stranger", "stranger").issue("stranger")
    others = {"GATESYNC_CERT": str(stranger.certificate), "GATESYNC_KEY": str(stranger.key)}
    refused = here.run("labels", **others)
    assert refused.code == 3
    assert re.search("does not (trust the authority of|accept) our certificate", refused.err)

    files = {"GATESYNC_CERT": str(client.certificate), "GATESYNC_KEY": str(client.key)}
    done = publish(here, "a.xml", **files)
    assert done.code == 0, done.err + role.said()


def test_a_key_that_others_can_read_is_refused_by_name(here: Place, authority: Authority) -> None:
    pair = authority.issue("server", *LOOPBACK)
    pair.key.chmod(0o644)
    with_certificates(here, certificate=pair.certificate, key=pair.key)
    for role in ("publisher", "traffic-manager", "gateway"):
        done = here.run(role, "--config", here.config)
        assert done.code == 2, done.err
        assert f"{pair.key}: others can access it (mode 0644)" in done.err
