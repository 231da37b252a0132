"""A plaintext password in WSO2's JSON is to be found nowhere afterwards."""

import json
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.canonical import encode
from gatesync.artifacts.description import describe
from gatesync.artifacts.errors import ProblemsError
from gatesync.artifacts.model import Artifact, Identity, Part
from gatesync.artifacts.passwords import plaintext_passwords
from gatesync.artifacts.wso2 import Wso2Artifact, artifact_from_wso2, wso2_json

pytestmark = pytest.mark.fast

HUSH = "p1zza&hush"
API = {"name": "Menu", "version": "1.0", "apiDefinition": '<api name="Menu" context="/m"/>'}


def read(**members: Any) -> Wso2Artifact:
    return artifact_from_wso2(json.dumps({**API, **members}).encode(), "x.json")


def kept(**members: Any) -> tuple[Any, tuple[str, ...]]:
    found = read(**members)
    assert HUSH not in repr(found)
    assert HUSH.encode() not in encode(found.artifact)
    assert HUSH.encode() not in wso2_json(found.artifact)
    again = artifact_from_wso2(wso2_json(found.artifact), "x.json")
    assert again == (found.artifact, ())  # references stay, and ask for nothing again
    return found.artifact.extra["wso2"], found.secrets


def test_a_credential_becomes_a_reference_and_is_listed() -> None:
    extra, secrets = kept(
        credentialsToBeAdd=[
            {"alias": "b", "password": HUSH},
            {"alias": "a", "password": "$secret{a}"},
        ]
    )
    assert extra["credentialsToBeAdd"] == [
        {"alias": "a", "password": "$secret{a}"},
        {"alias": "b", "password": "$secret{b}"},
    ]
    assert secrets == ("b",)


def test_the_password_is_no_part_of_the_digest() -> None:
    one, other = (read(credentialsToBeAdd=[{"alias": "a", "password": p}]) for p in ("x", HUSH))
    assert one == other


@pytest.mark.parametrize(
    ("members", "alias"),
    [
        ({"security": {"password": HUSH}}, "security.password"),
        ({"security": {"Password": HUSH, "alias": "mine"}}, "mine"),
        ({"security": {"password": HUSH, "alias": 1}}, "security.password"),
        ({"password": HUSH}, "password"),
        ({"a": {"b": {"password": HUSH}}}, "a.b.password"),
        ({"a": [{"name": "n", "password": HUSH}]}, "a.n.password"),
        ({"a": [[{"password": HUSH}], {"password": None}]}, "a.password"),
        ({"thingsToBeAdd": [{"name": "n", "x": {"password": HUSH}}]}, "thingsToBeAdd.n.x.password"),
        (
            {"sequenceToBeAdd": [{"name": "s", "content": "<s/>", "password": HUSH}]},
            "sequenceToBeAdd.s.password",
        ),
        ({"a": [{"password": HUSH}, {"password": HUSH}]}, "a.password"),
        ({"a": {"password": "$secret{}" + HUSH}}, "a.password"),
        ({"a": {"password": "$secret{x}" + HUSH}}, "a.password"),
    ],
)
def test_any_member_that_is_called_password_is_one(members: dict[str, Any], alias: str) -> None:
    extra, secrets = kept(**members)
    assert secrets == (alias,)
    assert f"$secret{{{alias}}}" in json.dumps(extra)


def test_what_gatesync_carries_is_looked_through_too() -> None:
    found = read(gatesync={"format": "gatesync.wso2/1", "extra": {"a": {"password": HUSH}}})
    assert found.artifact.extra == {"a": {"password": "$secret{a.password}"}}
    assert found.secrets == ("a.password",)


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        (
            {"credentialsToBeAdd": [{"alias": "a", "password": p} for p in (HUSH, "x")]},
            "credentialsToBeAdd.a.password: another password has the alias 'a' too",
        ),
        (
            {"a": [{"password": HUSH}, {"password": "x"}]},
            "alias 'a.password' too; give each its own 'alias'",
        ),
        ({"credentialsToBeAdd": [{"password": HUSH}]}, "credentialsToBeAdd[0].alias: is missing"),
        ({"credentialsToBeAdd": [{"alias": "a"}]}, "credentialsToBeAdd[0].password: is missing"),
        ({"credentialsToBeAdd": [{"alias": "a", "password": None}]}, "password: is missing"),
        ({"credentialsToBeAdd": {"alias": "a", "password": HUSH}}, "must be a list"),
        ({"a": {"password": 2**53 + 1}}, "a.password: a password must be text"),
        ({"a": {"password": [HUSH]}}, "a.password: a password must be text"),
        ({"a": {"password": HUSH, "alias": "x}"}}, "alias 'x}' cannot stand in $secret{...}"),
        ({"a": {"password": HUSH, "alias": "x\n"}}, "cannot stand in"),
        ({"a": {"password": HUSH, "size": 2**53 + 3}}, "integers beyond 2^53"),
        ({"gatesync": {"format": {"password": HUSH}}}, "its format is unknown"),
        ({"gatesync": {"format": "gatesync.wso2/1", "parts": HUSH}}, "Expected `array`, got `str`"),
        ({"name": 1, "a": {"password": HUSH}}, "name: must be text"),
    ],
)
def test_no_message_shows_a_password(members: dict[str, Any], fault: str) -> None:
    with pytest.raises(ProblemsError) as refused:
        read(**members)
    told = "".join(traceback.format_exception(refused.value)) + repr(refused.value.problems)
    assert fault in str(refused.value)
    assert HUSH not in told
    assert str(2**53 + 1) not in told


_plain = st.text(st.characters(exclude_categories=["Cs"]), min_size=20, max_size=30)


@given(
    st.recursive(
        st.just(None) | st.integers(0, 9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["a", "b", "alias", "name", "PASSWORD"]), inner)
        ),
        max_leaves=8,
    ),
    _plain,
)
def test_wherever_it_stands_it_is_gone(tree: Any, password: str) -> None:
    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [fill(each) for each in value]
        if isinstance(value, dict):
            return {m: password if m == "PASSWORD" else fill(v) for m, v in value.items()}
        return value

    found = read(tree=fill(tree))
    assert password not in repr(found)
    whole = json.dumps(found.artifact.extra, ensure_ascii=False)
    assert password not in whole
    assert bool(found.secrets) == ("PASSWORD" in whole)


@pytest.mark.parametrize(
    ("extra", "places"),
    [
        ({"password": HUSH}, ["extra.password"]),
        ({"a": [{"name": "n", "PassWord": HUSH}, {"password": 12}]}, ["extra.a.n.PassWord"]),
        ({"a": {"password": {"password": HUSH}}}, ["extra.a.password.password"]),
        ({"password": f"$secret{{x}}{HUSH}"}, ["extra.password"]),
        ({"password": "$secret{x}", "b": {"password": "", "Password": None}}, []),
        ({"schema": {"password": {"type": "string"}}, "passwords": HUSH}, []),
    ],
)
def test_what_comes_in_our_own_form_with_a_password_is_refused(
    extra: dict[str, Any], places: list[str]
) -> None:
    part = Part("sequence", "s", "sequences/s.xml", b'<sequence name="s"/>')
    artifact = Artifact(Identity("t", "sequence", "s", ""), "id", (part,), extra)
    if not places:
        describe(artifact)
        return
    with pytest.raises(ProblemsError) as refused:
        describe(artifact)
    told = "".join(traceback.format_exception(refused.value)) + repr(refused.value.problems)
    assert HUSH not in told
    for place in places:
        assert f"{place}: a password in plain text; write $secret{{alias}} in its place" in told


def test_extra_without_end_is_looked_through() -> None:
    deep: dict[str, Any] = {"password": HUSH}
    for _ in range(10_000):
        deep = {"a": deep}
    assert len(list(plaintext_passwords(deep, ""))) == 1
