"""The broker's users, as the tokens say."""

import json
from pathlib import Path

import pytest

from gatesync.artifacts.names import label_token
from gatesync.events.nats_users import NodeUser
from gatesync.events.nkeys import key_of_token
from gatesync.publisher.broker_users import node_users
from gatesync.publisher.token_registry import TokenRegistry
from gatesync.publisher.tokens import Role, TokenFile

pytestmark = pytest.mark.fast


def subject(label: str) -> str:
    return f"gatesync.label.{label_token(label)}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def forget_nkeys(path: Path) -> None:
    """Make it a file of the time before there were any."""
    document = json.loads(path.read_text())
    for token in document["tokens"]:
        del token["nkey"]
    path.write_text(json.dumps(document))


@pytest.mark.promise(8)
def test_each_good_token_of_a_node_is_a_user_and_no_other_is(path: Path) -> None:
    tokens = TokenFile(path)
    first = tokens.create(Role.NODE, "b", ["L", "M", "L"])
    second = tokens.create(Role.NODE, "a", ["L", "*"])
    third = tokens.create(Role.NODE, "b", ["N"])  # the next one, while the first still works
    tokens.create(Role.NODE, "gone", ["L"])
    tokens.revoke("gone")
    tokens.create(Role.PUBLISH, "p")
    tokens.create(Role.READ, "r")
    b = [
        NodeUser("b", key_of_token(first).public, tuple(sorted((subject("L"), subject("M"))))),
        NodeUser("b", key_of_token(third).public, (subject("N"),)),
    ]
    assert node_users(tokens.list()) == (
        NodeUser("a", key_of_token(second).public, ("gatesync.label.*",)),
        *sorted(b, key=lambda user: user.nkey),
    )


@pytest.mark.promise(8)
@pytest.mark.parametrize("wrong", [">", "*", "a.b", "a b", "", 'a"] } {'])
def test_a_node_id_that_people_wrote_into_the_file_opens_nothing(path: Path, wrong: str) -> None:
    tokens = TokenFile(path)
    tokens.create(Role.NODE, "edited", ["L"])
    tokens.create(Role.NODE, "good", ["L"])
    path.write_text(path.read_text().replace('"edited"', json.dumps(wrong)))
    assert [user.node for user in node_users(tokens.list())] == ["good"]


def test_an_older_token_gets_its_key_when_it_is_shown_and_only_then(path: Path) -> None:
    tokens = TokenFile(path)
    text, other = (tokens.create(Role.NODE, name, ["L"]) for name in ("gw1", "gw2"))
    whole = tokens.list()
    forget_nkeys(path)
    registry = TokenRegistry(path)
    assert node_users(registry.tokens()) == ()
    assert registry.authenticate(text[:-1] + ("A" if text[-1] != "A" else "B")) is None
    assert registry.learned == {}
    assert registry.authenticate(text) is not None
    assert [user.node for user in node_users(registry.tokens())] == ["gw1"]
    assert registry.authenticate(text) is not None
    assert list(registry.learned) == [whole[0].token_id]
    tokens.learn(registry.learned)
    assert tokens.list() == (whole[0], *(t for t in tokens.list() if t.id == "gw2"))
    assert [user.node for user in node_users(TokenRegistry(path).tokens())] == ["gw1"]
    before = path.stat().st_mtime_ns
    tokens.learn({whole[0].token_id: key_of_token(other).public})  # a key never changes
    assert (path.stat().st_mtime_ns, tokens.list()[0]) == (before, whole[0])
