"""A publisher that cannot open its database says why in one line, and ends."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.servers.gatesync import Done, free_ports, run

SERVERS = [
    name
    for name in ("postgresql", "mariadb")
    if name in (os.environ.get("GATESYNC_TEST_DB") or name)
]


class Opening:
    """Starts publishers on one database, each with something that is wrong."""

    def __init__(self, kind: str, url: str, folder: Path) -> None:
        parsed = make_url(url)
        self.kind, self.folder = kind, folder
        self.keys: dict[str, Any] = {
            "host": f"{parsed.host}:{parsed.port}",
            "database": parsed.database,
            "username": parsed.username,
            "password": parsed.password,
            "parameters": "",
        }

    def start(self, **wrong: str) -> Done:
        keys = self.keys | wrong
        url = f"jdbc:{self.kind}://{keys['host']}/{keys['database']}{keys['parameters']}"
        config = self.folder / "deployment.toml"
        config.write_text(
            '[gatesync]\npublisher.listen = "127.0.0.1:0"\n[apim.event_hub]\nenable = false\n'
            f"[database.sync_runtime_artifacts_db]\nurl = '{url}'\n"
            f"username = '{keys['username']}'\npassword = '$env{{DATABASE_PASSWORD}}'\n"
        )
        return run(
            self.folder, "publisher", "--config", config, DATABASE_PASSWORD=str(keys["password"])
        )


@pytest.fixture(params=SERVERS)
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opening]:
    server = request.getfixturevalue(request.param)
    with server.database() as url:
        yield Opening(request.param, url, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "key", "says"),
    [
        ({"password": "hidden €🔑"}, "password", "mend username and password"),
        ({"database": "nowhere"}, "url", "there is no such database; create it, or mend the url"),
        ({"parameters": "?sslMode=require"}, "url", "TLS is not as the url asks for; mend sslMode"),
        ({"parameters": "?sslMode=verify-ca&sslrootcert=no.pem"}, "url", "and sslrootcert"),
    ],
)
def test_a_mistake_names_the_key_to_mend(
    opening: Opening, wrong: dict[str, str], key: str, says: str
) -> None:
    done = opening.start(**wrong)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"database.sync_runtime_artifacts_db.{key}: " in done.err
    assert f"://{opening.keys['host']}/" in done.err
    assert says in done.err
    assert "hidden" not in done.err
    assert str(opening.keys["password"]) not in done.err


def test_a_server_that_is_not_there_is_named_at_once(opening: Opening) -> None:
    host = f"127.0.0.1:{free_ports(1)[0]}"
    done = opening.start(host=host)
    assert (done.code, done.out, done.err.count("\n")) == (3, "", 1)
    assert f"://{host}/" in done.err
    assert "start the database, or mend host and port" in done.err
    assert str(opening.keys["password"]) not in done.err


def test_of_several_hosts_one_that_answers_is_found(opening: Opening) -> None:
    """It gets as far as the database that is not there."""
    host = f"127.0.0.1:{free_ports(1)[0]},{opening.keys['host']}"
    done = opening.start(host=host, database="nowhere")
    assert done.code == 2
    assert "no such database" in done.err


@pytest.mark.fast
def test_the_packs_database_is_refused_when_a_publisher_opens_it(tmp_path: Path) -> None:
    config = tmp_path / "deployment.toml"
    config.write_text('[database.apim_db]\ntype = "h2"\nurl = "jdbc:h2:./a"\n')
    done = run(tmp_path, "publisher", "--config", config)
    assert done.code == 2
    assert (
        "database.apim_db.type: is for h2, on which gatesync does not run; use one of" in done.err
    )
