import unicodedata

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import KINDS, Identity
from gatesync.artifacts.names import check_path
from gatesync.artifacts.paths import decode_name, encode_name, folded, folder_of, places_of
from tests.artifacts import strategies

pytestmark = pytest.mark.fast

# What file systems stumble over, often.
_texts = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("aAbBéÉe\u0301ßK: .~%/\\conN1-_"),
    max_size=300,
)


def _folds(path: str) -> set[str]:
    """What file systems that are not careful make of a path."""
    forms = {unicodedata.normalize(form, path) for form in ("NFC", "NFD", "NFKC", "NFKD")}
    return {fold(form) for form in forms for fold in (str.casefold, str.lower, str.upper)}


@given(_texts)
@example("")
@example("%")
@example("~")
@example("A" * 300)
@example("é" * 255)
def test_a_name_comes_back_also_from_a_path_that_was_folded(name: str) -> None:
    path = encode_name(name)
    assert decode_name(path) == name
    assert decode_name(path.lower()) == name
    assert decode_name(path.upper()) == name


@given(_texts, _texts)
@example("Menu", "menu")
@example("mEnu", "Menu")
@example("é", "e\u0301")
@example("a:b", "a_b")
@example("a/b", "a%2fb")
@example("K", "\u212a")  # the sign for Kelvin
def test_two_names_are_two_paths_however_they_are_folded(one: str, other: str) -> None:
    both = _folds(encode_name(one)) & _folds(encode_name(other))
    assert bool(both) == (one == other)


@given(_texts)
def test_any_file_system_can_hold_each_step(name: str) -> None:
    path = encode_name(name)
    check = path.split("/")
    for step in check:
        assert 0 < len(step) <= 255
        assert step.isascii()
        assert step.isprintable()
        assert not set(step) & set('<>:"|?*\\')
        assert step[0] not in ". "
        assert step[-1] not in ". "
        assert step.partition(".")[0].lower() not in {"con", "nul", "aux", "prn", "com1"}
    if len(path) <= 1024:
        assert check_path(path) == path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("menu 1.0", "menu 1.0"),
        ("MenuAPI", "MenuAPI~71"),
        ("a:b/é", "a%3ab%2f%c3%a9"),
        ("", "~"),
        (".git", "%2egit"),
        ("CON.x", "%43ON.x~3"),
        ("com1", "%63om1"),
        ("a.", "a%2e"),
        ("a" * 200, "a" * 180 + "%/" + "a" * 20),
    ],
)
def test_a_path_is_made_as_the_documentation_says(name: str, path: str) -> None:
    assert encode_name(name) == path


@pytest.mark.parametrize(
    "path",
    ["a:b", "a/b", "a%", "%zz", "a%2", "", "é", "%61", "menu~", "a~2", "%ff", "con", "..", "a~g"],
)
def test_what_is_no_path_of_ours_is_refused(path: str) -> None:
    with pytest.raises(Problem, match="no path that gatesync makes"):
        decode_name(path)


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(Problem, match="not valid Unicode"):
        encode_name("a\udcff")


@given(_texts)
@example("\u0130\u0131\u017f\u1fb3\u0149\u01c5")
def test_whatever_a_file_system_may_take_for_one_folds_alike(path: str) -> None:
    assert {folded(each) for each in _folds(path)} == {folded(path)}


# Few letters and steps: so that paths clash, and lie in each other.
_tokens = ["%3a", "~1", "ss", "a.toml", "A.TOML", *"aA:%~1éE\u0301\u200dß"]
_steps = st.lists(st.sampled_from(_tokens), min_size=1, max_size=3).map("".join)
_paths = st.lists(_steps, min_size=1, max_size=3).map("/".join)


@given(st.lists(_paths, unique=True, max_size=8).filter(lambda paths: not _within(paths)))
@example(["a.toml"])
@example(["A/a", "a/A", "a/b"])
def test_no_two_places_are_taken_for_one_nor_lie_in_each_other(paths: list[str]) -> None:
    places = places_of(paths, "a.toml")
    assert list(places) == paths
    for place in places.values():
        assert all(step and not set(step) & set(':\\"') for step in place.split("/"))
    taken = {"a.toml": "a.toml", **places}
    for one, first in taken.items():
        for other, second in taken.items():
            if taken[one] is not taken[other]:
                assert not _folds(first) & _folds(second), (one, other)
                assert not any(fold.startswith(f"{folded(first)}/") for fold in [folded(second)])


def _within(paths: list[str]) -> bool:
    return any(other.startswith(f"{path}/") for path in paths for other in paths)


@given(_paths, _paths)
@example("A", "a")
def test_folders_that_fold_alike_are_spelled_alike(one: str, other: str) -> None:
    paths = [f"{one}/1", f"{other}/2"]
    assume(not _within(paths))
    places = places_of(paths, "a.toml")
    first, second = (place.rpartition("/")[0] for place in places.values())
    assert (folded(first) == folded(second)) == (first == second)


def test_plain_paths_stay_as_they_are() -> None:
    paths = ["api/admin--MenuAPI_v2.1.0.xml", "sequences/Menü 1~.xml", "a%3ab.xml"]
    assert places_of(paths, "artifact.toml") == {path: path for path in paths}


_identities = st.builds(
    Identity,
    strategies.names,
    st.sampled_from(sorted(KINDS)),
    strategies.names | st.sampled_from(["Menu", "menu", "a", "a/1.0"]),
    strategies.versions | st.sampled_from(["1.0", "b"]),
)
_labels = strategies.names


@given(_labels, _identities, _labels, _identities)
def test_no_two_artifacts_share_a_folder_nor_stand_in_each_others(
    label: str, one: Identity, second: str, other: Identity
) -> None:
    first, last = folded(folder_of(label, one)), folded(folder_of(second, other))
    assert (first == last) == ((label, one) == (second, other))
    assert not f"{last}/".startswith(f"{first}/") or first == last


def test_an_artifacts_folder_reads_well() -> None:
    identity = Identity("carbon.super", "api", "menu", "1.0.0")
    assert folder_of("default", identity) == "default/carbon.super/api/menu/1.0.0"
