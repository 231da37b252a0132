"""Names and paths, there and back, for anything that may be called something."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.errors import Problem, ProblemsError
from gatesync.artifacts.folder import FOLDER_FILE
from gatesync.artifacts.model import KINDS, Identity
from gatesync.artifacts.names import check_label, check_name
from gatesync.artifacts.paths import exact_name, folded
from gatesync.stores.git_layout import (
    Place,
    build,
    files_in,
    folder_of,
    place_of,
    rebuild,
    split,
    stray,
)
from tests.contracts.genuine import publish

pytestmark = pytest.mark.fast


def is_name(text: str) -> bool:
    try:
        check_name(text, "name")
    except Problem:
        return False
    return True


def is_label(text: str) -> bool:
    try:
        check_label(text)
    except Problem:
        return False
    return True


SPECIAL = ("A B", "con.x", ".git", "a:b/é", "~", "%", "x ", "É", "e\u0301", "\u212a", "ß", "1.0.0")
NAMES = st.one_of(st.sampled_from(SPECIAL), st.text(min_size=1, max_size=60)).filter(is_name)
LABELS = st.one_of(
    st.sampled_from((*SPECIAL, "Production and Sandbox", "é" * 127 + "e", "..")),
    st.text(min_size=1, max_size=60),
).filter(is_label)
IDENTITIES = st.builds(
    Identity, NAMES, st.sampled_from(sorted(KINDS)), NAMES, st.one_of(st.just(""), NAMES)
)
PLACES = st.builds(Place, LABELS, IDENTITIES)


@given(PLACES)
def test_a_folder_says_whose_it_is(place: Place) -> None:
    folder = folder_of(place.label, place.identity)
    assert place_of(folder) == place
    assert split(f"{folder}/api/a.xml") == (folder, "api/a.xml")


@given(PLACES, PLACES)
def test_no_file_system_takes_two_folders_for_one(one: Place, two: Place) -> None:
    first, second = (folder_of(each.label, each.identity) for each in (one, two))
    if one != two:
        assert folded(first) != folded(second)
    assert unicodedata.is_normalized("NFC", first)
    for step in first.split("/"):
        assert step not in ("", ".", "..", ".git")


@given(PLACES, st.sampled_from(("upper", "title", "literal")))
def test_a_folder_counts_only_as_it_is_to_be_called(place: Place, how: str) -> None:
    folder = folder_of(place.label, place.identity)
    wrong = folder.replace("~", "") if how == "literal" else getattr(folder, how)()
    try:
        found = place_of(wrong)
    except Problem:
        return
    assert folder_of(found.label, found.identity) == wrong


def test_what_a_folder_is_to_be_called_is_told() -> None:
    for wrong in ("Shop/carbon.super/api/Menu/1.0.0", "SHOP~1/carbon.super/api/MENU~1/1.0.0"):
        with pytest.raises(Problem, match=r"called Shop~1/carbon\.super/api/Menu~1/1\.0\.0"):
            place_of(wrong)


@given(st.text(max_size=40))
def test_only_the_path_that_a_name_has_is_read_as_it(path: str) -> None:
    name = exact_name(path)
    if name is not None and is_name(name):
        folder = folder_of("L", Identity("t", "api", name, "1"))
        assert folder.split("/", 3)[3].rpartition("/")[0] == path


def test_files_stand_in_a_folder_of_five_names_however_long_those_are() -> None:
    long = "n" * 250
    identity = Identity("carbon.super", "api", long, "1.0.0")
    folder = folder_of("Shop", identity)
    assert folder.count("/") == 5
    assert split(f"{folder}/{FOLDER_FILE}") == (folder, FOLDER_FILE)
    assert place_of(folder) == Place("Shop", identity)
    for path in ("README.md", "a/b/c/d/file", f"{folder.rpartition('/')[0]}/{FOLDER_FILE}"):
        assert split(path) is None
    assert stray("Shop~1/README.md") is None
    assert "is not read" in str(stray(f"Shop~1/{FOLDER_FILE}"))


@pytest.mark.parametrize("content", [b"plain", b"\xff\x00", b""])
def test_an_artifact_comes_back_from_its_files_with_its_digest(content: bytes) -> None:
    item = publish("Menu", content, claims=["log"], needs=["seq"], api_id="id-1")
    identity = item.entry.identity
    folder = folder_of("Shop", identity)
    files = files_in(item.content)
    built = build(files, identity, folder)
    assert (built.entry, built.content) == (item.entry, item.content)
    assert rebuild(files, identity, folder, item.entry.digest) == item.content
    assert rebuild(files, identity, folder, "0" * 64) is None
    assert rebuild({}, identity, folder, item.entry.digest) is None


def test_a_folder_of_another_tenant_needs_no_tenant_in_its_file() -> None:
    files = files_in(publish("Menu").content)
    identity = Identity("other.com", "api", "Menu", "1.0.0")
    built = build(files, identity, folder_of("Shop", identity))
    assert built.entry.identity == identity
    assert built.entry.api_id == identity.default_api_id()
    files[FOLDER_FILE] += b'tenant = "third.com"\n'
    with pytest.raises(ProblemsError, match=r"third\.com"):
        build(files, identity, folder_of("Shop", identity))
