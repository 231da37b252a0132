"""Keys as NATS writes them, and a node's that is made of its token."""

import base64
import json

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.errors import Problem
from gatesync.events.nats_config import users_config
from gatesync.events.nats_users import NodeUser, node_user
from gatesync.events.nkeys import NkeyError, key_of_seed, key_of_token
from tests.events.broker_keys import USER, Nkey

pytestmark = pytest.mark.fast

TOKEN = f"gs_0123456789ab_{'x' * 43}"


def test_a_seed_has_the_public_key_that_nats_gives_it() -> None:
    """The example of NATS's own documentation of nkeys."""
    key = key_of_seed("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY")
    assert key.public == "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def test_a_token_always_makes_the_same_key() -> None:
    """Were it another one in the next version, no node could log in until all are of one."""
    assert key_of_token(TOKEN).public == "UBS3GPNR4BNXGPX4K6VPO5GNWJOLEKBP3GEU53BL5HBN7ZD7J3HWECRB"


def test_the_key_is_the_secrets_and_signs() -> None:
    key = key_of_token(TOKEN)
    assert key_of_token(TOKEN.replace("0123456789ab", "ba9876543210")).public == key.public
    assert key_of_token(TOKEN[:-1] + "y").public != key.public
    raw = base64.b32decode(key.public)[1:-2]
    Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(key.sign("nonce")), b"nonce")
    assert TOKEN.rpartition("_")[2] not in repr(key) + str(vars(key))


@pytest.mark.parametrize(
    "text", ["", "gs_", TOKEN[:-1], TOKEN + "x", "x" + TOKEN, TOKEN.replace("_", "-"), "SU" * 29]
)
def test_what_is_no_token_makes_no_key_and_is_not_repeated(text: str) -> None:
    with pytest.raises(NkeyError, match="gatesync token create") as refused:
        key_of_token(text)
    assert not text or len(text) < 4 or text not in str(refused.value)


@given(st.text())
def test_no_text_is_taken_for_a_seed(text: str) -> None:
    with pytest.raises(NkeyError):
        key_of_seed(text)


def test_seeds_of_others_are_as_they_say() -> None:
    made = Nkey(USER)
    assert key_of_seed(made.seed).public == made.public


@pytest.mark.promise(8)
@given(st.text())
def test_a_users_subjects_are_exact_whatever_the_label(label: str) -> None:
    try:
        user = node_user("gw1", key_of_token(TOKEN).public, [label])
    except Problem:
        return
    (subject,) = user.hears
    assert subject.startswith("gatesync.label.")
    assert len(subject) == len("gatesync.label.") + 64
    assert not set("*> ") & set(subject)
    assert msgspec.json.decode(msgspec.json.encode(user), type=NodeUser) == user


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    "changed",
    [
        {"node": ">"},
        {"node": "a.b"},
        {"node": ""},
        {"nkey": '" permissions: {'},
        {"nkey": "U"},
        {"hears": [">"]},
        {"hears": ["gatesync.label.>"]},
        {"hears": ["gatesync.report.*"]},
        {"hears": [f"gatesync.label.{'a' * 64}.>"]},
        {"hears": [f"gatesync.label.{'a' * 64}\n"]},
    ],
)
def test_a_publisher_cannot_tell_a_broker_of_a_user_that_may_more(changed: dict[str, str]) -> None:
    """So that who speaks for the publisher writes nothing of his own into the configuration."""
    user = msgspec.to_builtins(node_user("gw1", key_of_token(TOKEN).public, ["L"]))
    msgspec.json.decode(json.dumps(user), type=NodeUser)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(user | changed), type=NodeUser)


def test_the_publishers_password_is_quoted_by_who_gives_it() -> None:
    assert 'user: "publisher", password: $NAME' in users_config("$NAME", [])
