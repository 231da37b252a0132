"""docs/configuration.md says what the code does."""

import json
import re
from pathlib import Path

import pytest

from gatesync.config import describe, known_keys, load
from gatesync.config.describe import Described
from gatesync.config.git import GIT_TABLE
from gatesync.config.share import SHARE_TABLE
from tests.config.conftest import Reading

pytestmark = pytest.mark.fast

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def rows() -> dict[str, tuple[str, str, str]]:
    """Type, default and owner of each key, from the page's tables of keys."""
    found: dict[str, tuple[str, str, str]] = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 5 and re.fullmatch(r"`[\w.-]+`", cells[0]):
            key = cells[0].strip("`")
            assert key not in found, f"{key} stands there twice"
            found[key] = (cells[1], cells[2], cells[4])
    return found


def test_every_known_key_is_documented_and_every_documented_key_is_known() -> None:
    assert set(rows()) == known_keys()


def test_each_key_says_whose_it_is() -> None:
    for key, (_, _, whose) in rows().items():
        ours = key.startswith(("gatesync.", GIT_TABLE, SHARE_TABLE)) or key.endswith(
            (".environment.labels", ".read_url")
        )
        assert whose == ("gatesync" if ours else "WSO2"), key


def test_the_documented_defaults_are_those_of_the_code(reading: Reading) -> None:
    loaded = reading.load("[[apim.gateway.environment]]\nname = 'A'")
    documented = rows()
    compared = 0
    for item in describe(loaded):
        default = documented[item.key.replace("[0]", "")][1]
        if item.origin == "default" and item.key != "gatesync.data":
            assert default == as_documented(item), item.key
            compared += 1
    assert compared > 40
    assert documented["gatesync.data"][1] == f'`"{load(None).settings.data.name}"`'


def as_documented(item: Described) -> str:
    return "not set" if item.value is None else f"`{json.dumps(item.value)}`"
