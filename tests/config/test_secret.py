import copy
import json
import pickle
from pathlib import Path

import msgspec
import pytest

from gatesync.config import ConfigError, Secret, as_toml, describe, encode_masked, read_secret_file
from gatesync.config.secret import SecretUrl, masked
from tests.config.conftest import Reading

pytestmark = pytest.mark.fast

FILE = """
[apim.event_hub]
password = "hidden"
[[apim.gateway.environment]]
name = "A"
password = "$env{GW}"
[gatesync.gateway]
token = "hidden"
admin_token = "$secret{admin}"
[database.sync_runtime_artifacts_db]
type = "mysql"
url = "jdbc:mysql://root:hidden@db/x?password=hidden"
password = "hidden"
pool_options = { password = "hidden", maxActive = 3 }
[secrets]
admin = "[hidden]"
"""


def test_a_secret_is_shown_by_reveal_alone() -> None:
    secret = Secret("hidden")
    assert secret.reveal() == "hidden"
    shown = [repr(secret), str(secret), f"{secret}", repr([secret]), repr({"a": secret})]
    shown.append(msgspec.json.encode(secret, enc_hook=encode_masked).decode())
    assert not [text for text in shown if "hidden" in text]
    for show in (json.dumps, msgspec.json.encode, pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            show(secret)


def test_secrets_compare_by_their_text() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
    assert not Secret("")


def test_no_secret_of_a_file_is_in_any_view_of_it(reading: Reading) -> None:
    loaded = reading.load(FILE, {"GW": "hidden"})
    described = describe(loaded)
    views = [
        repr(loaded),
        as_toml(described),
        msgspec.json.encode(described).decode(),
        msgspec.json.encode(loaded.settings, enc_hook=encode_masked).decode(),
    ]
    assert not [view for view in views if "hidden" in view]
    assert loaded.settings.gateway.admin_token == Secret("hidden")
    assert "jdbc:mysql://***@db/x?password=***" in views[1]


@pytest.mark.parametrize(
    "line",
    [
        "apim.event_hub.password = ['hidden']",
        "gatesync.gateway.token = {a = 'hidden'}",
        "apim.event_hub.service_url = 'https://user:hidden@h'",
        "apim.event_hub.event_listening_endpoints = ['nats://user:hid/den hidden@h']",
        "database.sync_runtime_artifacts_db.pool_options = {password = ['hidden']}",
        "database.sync_runtime_artifacts_db.url = ['jdbc:oracle:thin:scott/hidden@h']",
        "gatesync.log_level = '$secret{x}'\nsecrets.x = '[hidden]'",
        "apim.sync_runtime_artifacts.gateway.gateway_labels = ['$secret{x}']\n"
        'secrets.x = "[hidden\\u0001]"',
        "gatesync.gateway.token = '$secret{x}'\nsecrets.x = 'hidden'",
    ],
)
def test_no_message_repeats_a_secret(reading: Reading, line: str) -> None:
    problems = reading.check(line).problems
    assert problems
    assert "hidden" not in str(problems)


def test_urls_lose_what_should_not_be_shown() -> None:
    assert masked("https://u:p@h/x?Password=p&a=1") == "https://***@h/x?Password=***"
    assert masked("jdbc:oracle:thin:scott/tiger@h:1521") == "jdbc:oracle:thin:***@h:1521"
    assert repr(SecretUrl("jdbc:mysql://h/d?user=a&amp;password=p;q&x=r")) == (
        "jdbc:mysql://h/d?user=a&amp;password=***"
    )
    assert repr(SecretUrl("jdbc:mysql://h/d?p%61ssword=p@q")) == "jdbc:mysql://***"
    assert repr(SecretUrl("jdbc:mysql:u:p@h")) == "jdbc:mysql:***@h"
    assert repr(SecretUrl("u:p@h")) == "***"
    assert masked("nats://h:4222") == "nats://h:4222"


def test_a_secret_file_gives_its_text_without_the_line_end(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text("gs_1_x\n")
    assert read_secret_file(path) == Secret("gs_1_x")


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        (b"hidden", 0o640, "chmod 600"),
        (b" \n", 0o600, "is empty"),
        (b"\xff", 0o600, "not UTF-8"),
        (b"x" * 70_000, 0o600, "larger than 64 KiB"),
    ],
)
def test_a_secret_file_that_cannot_be_trusted_is_refused(
    tmp_path: Path, content: bytes, mode: int, expected: str
) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=expected) as caught:
        read_secret_file(path, "gatesync.gateway.token_file")
    assert "gatesync.gateway.token_file" in str(caught.value)
    assert str(path) in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_missing_secret_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"token: cannot be read: No such file"):
        read_secret_file(tmp_path / "token")
