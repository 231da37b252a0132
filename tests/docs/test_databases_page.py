"""docs/databases.md: the statements that make a database are enough for everything that we do."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from tests.contracts.saves import asked, held, publish, remove, saved
from tests.stores.sql_bench import opened

PAGE = Path(__file__).parents[2] / "docs" / "databases.md"
SERVERS = ("postgresql", "mariadb")
CLEANING = {
    "postgresql": ("DROP DATABASE IF EXISTS apim WITH (FORCE)", "DROP ROLE IF EXISTS apim"),
    "mariadb": ("DROP DATABASE IF EXISTS apim", "DROP USER IF EXISTS apim@'%'"),
}


def statements(kind: str) -> list[str]:
    section = PAGE.read_text().partition("## Making the database\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == len(SERVERS)
    found = blocks[SERVERS.index(kind)].strip().rstrip(";").split(";\n")
    assert len(found) >= 2
    return [str(each) for each in found]


@pytest.mark.parametrize(
    "kind", [name for name in SERVERS if name in (os.environ.get("GATESYNC_TEST_DB") or name)]
)
async def test_the_user_that_the_page_makes_may_do_what_the_store_does(
    request: pytest.FixtureRequest, kind: str
) -> None:
    server = request.getfixturevalue(kind)
    url = URL.create(kind, "apim", "of your choice", "127.0.0.1", server.port, "apim")
    try:
        execute(server, *statements(kind))
        for _ in range(2):  # the tables are made, and then found
            async with opened(url.render_as_string(hide_password=False)) as bench:
                await saved(bench, asked("Shop", publish("A", "1"), publish("B")))
                await saved(bench, asked("Shop", publish("A", "2"), remove("B")))
                await bench.store.compact("Shop", keep=0)
                assert await held(bench, "Shop") == {"A": b"2"}
    finally:
        execute(server, *CLEANING[kind])


def execute(server: Any, *each_of: str) -> None:
    """As the server's own user, who may do everything."""
    connection = server.connect()
    try:
        for each in each_of:
            connection.cursor().execute(each)
    finally:
        connection.close()
