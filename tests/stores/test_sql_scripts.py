"""The creation scripts: the files are what the definitions say, and the store runs on them."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from gatesync.stores.sql import open_sql_store
from gatesync.stores.sql_scripts import SCRIPTS, creation_script
from gatesync.stores.store import SaveOutcome
from tests.contracts.saves import asked, publish

FOLDER = Path(__file__).parents[2] / "dbscripts"


@pytest.mark.fast
@pytest.mark.parametrize("dialect", SCRIPTS)
def test_the_file_is_what_the_definitions_say(dialect: str) -> None:
    made = f"make it anew: gatesync db script --dialect {dialect} > dbscripts/{dialect}.sql"
    assert (FOLDER / f"{dialect}.sql").read_text() == creation_script(dialect), made


@pytest.mark.fast
def test_there_is_no_other_file() -> None:
    assert {each.stem for each in FOLDER.iterdir()} == set(SCRIPTS)


@pytest.mark.fast
@pytest.mark.parametrize("dialect", ["mssql", "oracle"])
def test_what_was_never_run_says_so(dialect: str) -> None:
    head = creation_script(dialect).split("\n\n")[0]
    assert "NOT TESTED" in head


@pytest.mark.fast
def test_sql_server_gets_no_type_that_it_has_given_up() -> None:
    script = creation_script("mssql")
    assert "VARBINARY(max)" in script
    assert not {"IMAGE", "TEXT"} & set(script.replace(",", " ").split())


@pytest.mark.fast
@pytest.mark.parametrize("dialect", SCRIPTS)
def test_identifiers_are_short_and_unquoted(dialect: str) -> None:
    script = creation_script(dialect)
    assert '"' not in script.replace('COLLATE "C"', "")
    assert "`" not in script
    names = {word.strip("(),;") for word in script.split()}
    assert max(len(name.encode()) for name in names if name.startswith(("GS_", "AM_"))) <= 30


async def test_the_store_runs_on_what_the_script_made(database: str) -> None:
    url = make_url(database)
    dialect = url.get_backend_name()
    drivers = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}
    engine = create_engine(url.set(drivername=drivers.get(dialect, dialect)))
    with engine.begin() as connection:
        for statement in creation_script(dialect).split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    engine.dispose()
    async with open_sql_store(database) as store:
        [answer] = await store.save([asked("Shop", publish("A"))])
    assert isinstance(answer, SaveOutcome)
