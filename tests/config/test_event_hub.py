"""The event hub's keys: one login at most, TLS as a whole, nothing secret shown."""

from pathlib import Path

import pytest

from gatesync.config import describe
from tests.config.conftest import Reading

pytestmark = pytest.mark.fast

LOGINS = {
    "apim.event_hub.username": "[apim.event_hub]\nusername = 'u'\npassword = 'hidden'\n",
    "gatesync.event_hub.token": "[gatesync.event_hub]\ntoken = 'hidden'\n",
    "gatesync.event_hub.nkey_file": "[gatesync.event_hub]\nnkey_file = 'seed'\n",
    "gatesync.event_hub.creds_file": "[gatesync.event_hub]\ncreds_file = 'user.creds'\n",
    "gatesync.event_hub.credentials_file": "[gatesync.event_hub]\ncredentials_file = 'c.json'\n",
}


def test_several_endpoints_in_a_list_or_with_commas(reading: Reading) -> None:
    wanted = ("nats://localhost:1", "tls://b:2")
    for written in ("['nats://localhost:1', 'tls://b:2']", "'nats://localhost:1, tls://b:2'"):
        found = reading.load(f"apim.event_hub.event_listening_endpoints = {written}")
        assert found.settings.event_hub.event_listening_endpoints == wanted


def test_what_is_given_is_found_and_paths_begin_at_the_file(
    reading: Reading, tmp_path: Path
) -> None:
    found = reading.load(
        "[gatesync]\nheartbeat_interval = 3000\n[gatesync.event_hub]\nnkey_file = 'seed'\n"
        "tls_ca = 'ca.pem'\ntls_cert = 'c.pem'\ntls_key = 'c.key'\ntls_server_name = 'broker'\n"
    ).settings.event_hub.access
    assert (found.nkey_file, found.tls_ca) == (tmp_path / "seed", tmp_path / "ca.pem")
    assert (found.tls_cert, found.tls_key) == (tmp_path / "c.pem", tmp_path / "c.key")
    assert found.tls_server_name == "broker"
    assert found.ping_seconds == 3.0
    assert found.logs_in
    assert found.encrypts


@pytest.mark.parametrize(("given", "seconds"), [("100", 1.0), ("60000", 60.0)])
def test_pings_go_with_the_heartbeat_but_not_in_a_hurry(
    reading: Reading, given: str, seconds: float
) -> None:
    found = reading.load(f"gatesync.heartbeat_interval = {given}")
    assert found.settings.event_hub.access.ping_seconds == seconds


@pytest.mark.parametrize("second", LOGINS)
@pytest.mark.parametrize("first", LOGINS)
def test_two_logins_are_refused_by_name(reading: Reading, first: str, second: str) -> None:
    if first == second:
        assert not reading.check(LOGINS[first]).problems
        return
    text = LOGINS[first] + LOGINS[second].replace("[gatesync.event_hub]\n", "", 1 * (
        first.startswith("gatesync") and second.startswith("gatesync")
    ))  # fmt: skip
    problem = reading.problem(text)
    assert {problem.key} <= {first, second}
    assert "cannot stand beside" in problem.message
    assert "hidden" not in str(problem)


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("tls_cert = 'c.pem'", "tls_cert", "needs tls_key"),
        ("tls_key = 'c.key'", "tls_key", "needs tls_cert"),
        ("ping_interval = 99", "ping_interval", "from 100"),
        ("tls_ca = ''", "tls_ca", "must not be empty"),
    ],
)
def test_what_cannot_be_is_refused(reading: Reading, text: str, key: str, words: str) -> None:
    problem = reading.problem(f"[gatesync.event_hub]\n{text}")
    assert problem.key == f"gatesync.event_hub.{key}"
    assert words in problem.message


def test_tls_for_an_endpoint_without_it_is_refused(reading: Reading) -> None:
    problem = reading.problem(
        "apim.event_hub.event_listening_endpoints = ['tls://a:1', 'nats://localhost:2']\n"
        "gatesync.event_hub.tls_ca = 'ca.pem'"
    )
    assert problem.key == "gatesync.event_hub.tls_ca"
    assert "nats://localhost:2 is without; write tls://" in problem.message


def test_a_token_is_not_shown(reading: Reading) -> None:
    loaded = reading.load(LOGINS["gatesync.event_hub.token"])
    assert "hidden" not in repr(describe(loaded)) + repr(loaded.settings)
