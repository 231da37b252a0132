"""gatesync db: the commands that talk to the database itself, each as a process."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from gatesync.stores.sql_scripts import SCRIPTS, creation_script
from tests.servers.gatesync import Done, Place, free_ports, place, run
from tests.servers.mariadb import MariadbProcess
from tests.servers.postgresql import PostgresqlProcess
from tests.stores.wso2_tables import Row, make_wso2_tables, row

LABEL = "Production and Sandbox"


@pytest.fixture
def here(tmp_path: Path, database: str) -> Iterator[Place]:
    """A place whose publisher is to use the database."""
    with place(tmp_path) as made:
        use(made, database)
        yield made


def use(here: Place, database: str) -> None:
    url = make_url(database)
    if url.drivername == "sqlite":
        lines = f'url = "jdbc:sqlite:{url.database}"\n'
    else:
        lines = (
            f'url = "jdbc:{url.drivername}://{url.host}:{url.port}/{url.database}"\n'
            f'username = "{url.username}"\npassword = "{url.password}"\n'
        )
    section = f"[apim.event_hub]\nenable = false\n[database.sync_runtime_artifacts_db]\n{lines}"
    here.config.write_text(here.config.read_text() + section)


def db(here: Place, *arguments: str) -> Done:
    return here.run("db", *arguments, "--config", here.config)


@pytest.mark.parametrize("dialect", SCRIPTS)
def test_script_prints_what_lies_in_dbscripts(tmp_path: Path, dialect: str) -> None:
    done = run(tmp_path, "db", "script", "--dialect", dialect)
    assert (done.code, done.out, done.err) == (0, creation_script(dialect), "")


@pytest.mark.parametrize("dialect", ["db2", "h2", "postgres"])
def test_a_database_without_a_script_is_an_error_that_names_the_others(
    tmp_path: Path, dialect: str
) -> None:
    done = run(tmp_path, "db", "script", "--dialect", dialect)
    assert (done.code, done.out) == (2, "")
    assert repr(dialect) in done.err
    assert all(each in done.err for each in SCRIPTS)


def test_create_makes_what_check_finds_good(here: Place) -> None:
    before = db(here, "check")
    assert before.code == 1
    assert "gatesync db create" in before.out + before.err
    assert db(here, "create").code == 0
    again = db(here, "create", "--json")
    assert (again.code, len(again.json()["epoch"])) == (0, 36)
    after = db(here, "check")
    assert (after.code, after.out.count("\n")) == (0, 1)
    assert after.out.endswith(" is good\n")
    assert db(here, "check", "--json").json() == {
        "findings": [],
        "statements": [],
        "upgrade": False,
    }


def test_a_database_that_does_not_answer_is_exit_3(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        use(here, f"postgresql://u:hidden@127.0.0.1:{free_ports(1)[0]}/d")
        for command in ("check", "create", "upgrade"):
            done = db(here, command)
            assert (done.code, done.out) == (3, "")
            assert "start the database, or mend host and port" in done.err
            assert "hidden" not in done.err


def test_a_wrong_password_is_exit_2(tmp_path: Path, postgresql: PostgresqlProcess) -> None:
    with place(tmp_path) as here, postgresql.database() as url:
        use(here, make_url(url).set(password="hidden").render_as_string(hide_password=False))
        done = db(here, "check")
    assert (done.code, done.out) == (2, "")
    assert "mend username and password" in done.err
    assert "hidden" not in done.err


def test_who_may_not_create_is_told_what_an_administrator_runs(
    tmp_path: Path, postgresql: PostgresqlProcess
) -> None:
    with postgresql.database() as url, place(tmp_path) as here:
        with postgresql.connect() as connection:
            connection.execute("CREATE ROLE humble LOGIN PASSWORD 'p'")
        humble = make_url(url).set(username="humble", password="p")
        use(here, humble.render_as_string(hide_password=False))
        done = db(here, "create")
        with postgresql.connect() as connection:
            connection.execute("DROP ROLE humble")
    assert (done.code, done.out) == (2, "")
    assert "permission denied" in done.err
    assert "gatesync db script --dialect postgresql" in done.err


def test_the_same_on_mariadb(tmp_path: Path, mariadb: MariadbProcess) -> None:
    with mariadb.database() as url, place(tmp_path) as here:
        with mariadb.connect() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE USER humble@'%' IDENTIFIED BY 'p'")
            cursor.execute(f"GRANT SELECT, INSERT ON {make_url(url).database}.* TO humble@'%'")
        humble = make_url(url).set(username="humble", password="p")
        use(here, humble.render_as_string(hide_password=False))
        done = db(here, "create")
        with mariadb.connect() as connection, connection.cursor() as cursor:
            cursor.execute("DROP USER humble@'%'")
    assert (done.code, done.out) == (2, "")
    assert "gatesync db script --dialect mysql (or mariadb)" in done.err


GRANTS = "SELECT, INSERT, UPDATE, DELETE, CREATE, INDEX, REFERENCES"


def test_a_takeover_needs_more_of_mariadb_than_a_publisher(
    tmp_path: Path, mariadb: MariadbProcess
) -> None:
    with mariadb.database() as url, place(tmp_path) as here:
        make_wso2_tables(url, wso2_rows()[:4])
        tables = f"{make_url(url).database}.*"
        with mariadb.connect() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE USER apim_user@'%' IDENTIFIED BY 'p'")
            try:
                cursor.execute(f"GRANT {GRANTS} ON {tables} TO apim_user@'%'")
                user = make_url(url).set(username="apim_user", password="p")
                use(here, user.render_as_string(hide_password=False))
                refused = db(here, "upgrade")
                cursor.execute(f"GRANT ALTER, DROP ON {tables} TO apim_user@'%'")
                done = db(here, "upgrade")
            finally:
                cursor.execute("DROP USER apim_user@'%'")
    assert refused.code == 2
    assert "the owner of the tables must do this" in refused.err
    assert (done.code, done.out.count("is taken over")) == (0, 1)


def test_a_takeover_on_postgresql_is_for_the_tables_owner(
    tmp_path: Path, postgresql: PostgresqlProcess
) -> None:
    with postgresql.database() as url, place(tmp_path) as here:
        make_wso2_tables(url, wso2_rows()[:4])
        with postgresql.connect() as connection:
            connection.execute("CREATE ROLE other LOGIN PASSWORD 'p'")
            name = make_url(url).database
            connection.execute(f"ALTER DATABASE {name} OWNER TO other".encode())
        other = make_url(url).set(username="other", password="p")
        use(here, other.render_as_string(hide_password=False))
        refused = db(here, "upgrade")
        with postgresql.connect() as connection:
            connection.execute(f"ALTER DATABASE {name} OWNER TO gatesync".encode())
            connection.execute("DROP ROLE other")
    assert refused.code == 2
    assert "must be owner of table am_gw_api_artifacts" in refused.err
    assert "the owner of the tables must do this" in refused.err


def wso2_rows() -> list[Row]:
    secret = {"credentialsToBeAdd": [{"alias": "backend", "password": "hunter2"}]}
    return [
        row(LABEL, "Pizza", minute=1, **secret),
        row(LABEL, "Orders", minute=2, tenant="acme.example"),
        row("Second", "Pizza", minute=3),
        row(LABEL, "Gone", minute=4, instruction="Remove"),
        Row(LABEL, "broken", b'{"name":', minute=5),
    ]


def test_wso2s_tables_are_taken_over_and_served_by_a_publisher(here: Place, database: str) -> None:
    make_wso2_tables(database, wso2_rows())
    refused = here.run("publisher", "--config", here.config)
    assert (refused.code, refused.err.count("\n")) == (3, 1)
    assert "gatesync db upgrade" in refused.err
    assert "gatesync db upgrade" in db(here, "check").out

    done = db(here, "upgrade")
    assert done.code == 1  # one that WSO2 served is left out
    assert f"label {LABEL!r}: 2 published, 1 removed before, 1 left out" in done.out
    assert "label 'Second': 1 published, 0 removed before, 0 left out" in done.out
    assert f"left out: label {LABEL!r}, API_ID broken: its ARTIFACT cannot be read" in done.err
    assert "the password of 'backend' stood in the clear" in done.err
    assert "hunter2" not in done.out + done.err

    second = db(here, "upgrade", "--json")
    assert second.code == 1
    found = second.json()["taken_over"]
    assert found["before"] is True
    assert len(found["rows"]) == 5

    here.role("publisher").start()
    held = json.loads(here.run("list", "--json").out)
    assert {(each["label"], each["entry"]["name"]) for each in held["artifacts"]} == {
        (LABEL, "Pizza"),
        (LABEL, "Orders"),
        ("Second", "Pizza"),
    }
    history = here.run("history", "Gone")
    assert re.search(r"Remove.*WSO2", history.out, re.IGNORECASE), history.out
    assert db(here, "check").code == 0


def test_what_is_all_taken_is_exit_0(here: Place, database: str) -> None:
    make_wso2_tables(database, wso2_rows()[:4])
    assert db(here, "upgrade").code == 0
    assert db(here, "upgrade").code == 0


def test_without_wso2s_tables_there_is_nothing_to_take_over(here: Place) -> None:
    done = db(here, "upgrade")
    assert done.code == 0
    assert "there is nothing to take over" in done.out
    assert db(here, "upgrade", "--json").json()["taken_over"] is None
