"""[[gatesync.trusted_keys]]: whose signatures a gateway asks for."""

import pytest

from gatesync.artifacts.signatures import Signer, TrustedKey
from gatesync.config import describe
from tests.config.conftest import Reading

pytestmark = pytest.mark.fast

FIRST, SECOND = (Signer(bytes([number] * 32)).key for number in (1, 2))


def test_each_table_is_a_key_for_all_labels_or_for_some(reading: Reading) -> None:
    loaded = reading.load(
        f'[[gatesync.trusted_keys]]\nkey = "{FIRST.text}"\n'
        '[[gatesync.trusted_keys]]\nkey = "$env{SECOND}"\nlabels = ["A", "B"]\n',
        {"SECOND": SECOND.text},
    )
    assert loaded.settings.gateway.trusted_keys == (
        FIRST,
        TrustedKey(SECOND.public, ("A", "B")),
    )
    assert not loaded.warnings
    shown = {each.key: each.value for each in describe(loaded)}
    assert shown["gatesync.trusted_keys[0].key"] == FIRST.text


def test_without_any_nothing_is_asked_for(reading: Reading) -> None:
    assert reading.load("").settings.gateway.trusted_keys == ()


@pytest.mark.parametrize(
    ("table", "line", "said"),
    [
        ("", 1, "gatesync.trusted_keys[0].key"),
        ('key = "gspk_short"', 2, "this public key is not whole"),
        ('key = "ssh-ed25519 AAAA"', 2, "a public key begins with gspk_"),
        (f'key = "{FIRST.text}"\nlabels = []', 3, "must name at least one label"),
        ("key = 7", 2, "must be a text in quotes"),
        ('key = "$env{NOT_SET_ANYWHERE}"', 2, "NOT_SET_ANYWHERE"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_line(
    reading: Reading, table: str, line: int, said: str
) -> None:
    problem = reading.problem(f"[[gatesync.trusted_keys]]\n{table}")
    assert problem.line == line
    assert said in problem.at(None), problem


def test_a_misspelled_key_is_warned_of(reading: Reading) -> None:
    text = f'[[gatesync.trusted_keys]]\nkey = "{FIRST.text}"\nlables = ["A"]'
    (warning,) = reading.load(text).warnings
    assert "labels" in str(warning.message)
