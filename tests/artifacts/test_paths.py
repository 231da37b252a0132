import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import KINDS, Identity
from gatesync.artifacts.names import check_path
from gatesync.artifacts.paths import decode_name, encode_name, folder_of
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
    first, last = folder_of(label, one).casefold(), folder_of(second, other).casefold()
    assert (first == last) == ((label, one) == (second, other))
    assert not f"{last}/".startswith(f"{first}/") or first == last


def test_an_artifacts_folder_reads_well() -> None:
    identity = Identity("carbon.super", "api", "menu", "1.0.0")
    assert folder_of("default", identity) == "default/carbon.super/api/menu/1.0.0"
