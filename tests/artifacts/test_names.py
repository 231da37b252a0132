import hashlib
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.names import (
    check_label,
    check_name,
    check_node_id,
    check_path,
    label_token,
)

pytestmark = pytest.mark.fast

LITERAL = [
    "Production and Sandbox",
    " A ",
    "A_B",
    "a/b",
    "é",
    "e\u0301",
    "..",
    "%2e",
    "\u2028",
    "日本",
]


@pytest.mark.parametrize("label", [*LITERAL, "x" * 255, "é" * 127])
def test_a_label_is_kept_literally(label: str) -> None:
    assert check_label(label) == label


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("", "label is empty; give 1 to 255 bytes"),
        ("x" * 256, "has 256 bytes; at most 255"),
        ("é" * 128, "has 256 bytes; at most 255"),
        ("a\nb", "control character"),
        ("\0", "control character"),
        ("\x9f", "control character"),
        ("\ud800", "not valid Unicode"),
    ],
)
def test_a_label_that_cannot_be_kept_is_refused(label: str, reason: str) -> None:
    with pytest.raises(Problem, match=reason) as refused:
        check_label(label)
    assert str(refused.value).isprintable()


def test_controls_are_those_of_unicode() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Cs":
            continue
        try:
            check_label(character)
        except Problem:
            assert category == "Cc", hex(code)
        else:
            assert category != "Cc", hex(code)


@pytest.mark.parametrize(
    "name", ["PizzaShackAPI", "admin--X", "gov:/a/b", "a..b", "...", ".hidden", "a b", "x" * 255]
)
def test_a_name_is_kept_literally(name: str) -> None:
    assert check_name(name, "name") == name


@pytest.mark.parametrize(
    "name", ["..", ".", "../x", "x/..", "a/./b", r"..\x", r"a\..\b", r"a/..\b"]
)
def test_a_name_never_walks_up_a_path(name: str) -> None:
    with pytest.raises(Problem, match=r"version .* contains a path step"):
        check_name(name, "version")


def test_a_name_may_be_empty_only_where_that_is_said() -> None:
    assert check_name("", "version", empty=True) == ""
    with pytest.raises(Problem, match="name is empty"):
        check_name("", "name")


@pytest.mark.parametrize(
    "path", ["a", "api/a.xml", "a b/ü.xml", "...", "a/.b", "/".join("a" * 512)]
)
def test_a_path_is_kept_literally(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.", r"a\b", r"..\a", "a\nb",
     "\udcff", "x" * 256, "a/" * 512 + "a"],
)  # fmt: skip
def test_a_path_that_leaves_its_folder_is_refused(path: str) -> None:
    with pytest.raises(Problem) as refused:
        check_path(path)
    assert str(refused.value).isprintable()


@given(st.text())
def test_an_accepted_path_stays_where_it_is_put(path: str) -> None:
    try:
        check_path(path)
    except Problem:
        return
    assert path.encode()
    assert all(step not in {"", ".", ".."} for step in path.replace("\\", "/").split("/"))


@pytest.mark.parametrize("node", ["g1", "A-b_9", "x" * 64])
def test_a_node_id_is_a_token(node: str) -> None:
    assert check_node_id(node) == node


@pytest.mark.parametrize("node", ["", "-a", "_a", "a.b", "a b", "a*", ">", "é", "a\n", "x" * 65])
def test_a_node_id_that_a_broker_would_read_otherwise_is_refused(node: str) -> None:
    with pytest.raises(Problem, match="node id"):
        check_node_id(node)


def test_a_labels_token_is_the_hash_of_its_bytes() -> None:
    assert label_token("é") == hashlib.sha256("é".encode()).hexdigest()
    assert len({label_token(label) for label in LITERAL}) == len(LITERAL)
