"""docs/databases.md says what the code does."""

import re
from pathlib import Path

import pytest

from gatesync.config.database_parameters import used_names
from gatesync.config.database_url import parse_database_url
from gatesync.config.parameter_names import NOT_DONE, PASSED_OVER
from gatesync.config.pool_options import read_pool
from gatesync.stores.sql_options import SqlOptions
from tests.config.conftest import Reading

pytestmark = pytest.mark.fast

PAGE = (Path(__file__).parents[2] / "docs" / "databases.md").read_text()
SECTIONS = {
    title: body for title, _, body in (part.partition("\n") for part in PAGE.split("\n## "))
}


def names(text: str) -> list[str]:
    return re.findall(r"`([A-Za-z]\w+)`", text)


def documented() -> list[tuple[str, str]]:
    """Each parameter in the table, with the databases that it is for."""
    found: list[tuple[str, str]] = []
    for line in SECTIONS["Parameters"].splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and cells[0].startswith("`"):
            products = {"all": ("mysql", "postgresql"), "MySQL": ("mysql",)}
            for product in products.get(cells[1], ("postgresql",)):
                found += [(name, product) for name in names(cells[0])]
    assert len(found) > 60
    return found


def test_every_parameter_that_is_used_is_documented_and_only_those() -> None:
    for product in ("mysql", "postgresql"):
        url = parse_database_url(f"jdbc:{product}://h/d")
        listed = [name.lower() for name, of in documented() if of == product]
        assert len(listed) == len(set(listed))
        assert set(listed) == set(map(str.lower, used_names(url)))


def test_what_is_said_to_be_passed_over_is() -> None:
    silent = SECTIONS["Parameters"].partition("passed over")[0]
    assert set(names(silent)) <= set(PASSED_OVER)
    assert not set(map(str.lower, PASSED_OVER)) & set(map(str.lower, NOT_DONE))


def test_pool_options_are_as_they_are_said_to_be() -> None:
    body = SECTIONS["Pool options"]
    said: list[str] = []

    def say(name: str, _: str) -> None:
        said.append(name)

    table, _, rest = body.partition("\n\n`testOnBorrow")
    silent, _, warned = rest.partition("`maxWait`")
    read_pool(dict.fromkeys([*names(table), *names(silent), "testOnBorrow"], 2), say, say)
    assert said == []
    warnings = ["maxWait", *names(warned)]
    assert read_pool(dict.fromkeys(warnings, 2), say, say) == SqlOptions()
    assert said == warnings
    assert f"Default {SqlOptions().readers + 1};" in table
    assert f"Default {SqlOptions().recycle_after * 1000:.0f} |" in table


def test_the_example_is_taken_without_a_word(reading: Reading) -> None:
    example = PAGE.partition("```toml\n")[2].partition("```")[0]
    loaded = reading.load(example, {"DATABASE_PASSWORD": "p"})
    assert loaded.warnings == ()
    source = loaded.settings.database.source
    assert str(source) == "postgresql://db1.example:5432,db2.example:5432/gatesync"
