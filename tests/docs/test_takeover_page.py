"""docs/databases.md shows what a takeover really prints: it is done again and compared."""

import shlex
from pathlib import Path

from sqlalchemy import make_url

from tests.servers.gatesync import run
from tests.servers.mariadb import MariadbProcess
from tests.stores.wso2_tables import Row, document, make_wso2_tables, row

PAGE = Path(__file__).parents[2] / "docs" / "databases.md"
LABEL = "Production and Sandbox"
BLOB_BYTES = 65_535


def wso2_rows() -> list[Row]:
    secret = {"credentialsToBeAdd": [{"alias": "orders_backend", "password": "hunter2"}]}
    large = document("Catalogue", "c3", apiDefinition="<api" + " " * BLOB_BYTES)
    return [
        row(LABEL, "PizzaShackAPI", api_id="a1", minute=1),
        row("Partners", "PizzaShackAPI", api_id="a1", minute=2),
        row(LABEL, "Orders", api_id="b2", minute=3, tenant="acme.example", **secret),
        Row(LABEL, "c3", large[:BLOB_BYTES], minute=4, name="Catalogue"),
        row(LABEL, "Orders", api_id="b1", minute=5, version="0.9.0", instruction="Remove"),
        row("Partners", "Orders", api_id="b1", minute=6, version="0.9.0", instruction="Remove"),
    ]


def test_the_page_shows_what_a_takeover_prints(tmp_path: Path, mariadb: MariadbProcess) -> None:
    section = PAGE.read_text().partition("## Taking over WSO2's tables\n")[2]
    section = section.partition("\n## ")[0]
    shown = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    printed: list[str] = []
    with mariadb.database() as database:
        make_wso2_tables(database, wso2_rows())
        url = make_url(database)
        (tmp_path / "deployment.toml").write_text(
            "[database.sync_runtime_artifacts_db]\n"
            f'url = "jdbc:mariadb://127.0.0.1:{url.port}/{url.database}"\n'
            f'username = "{url.username}"\npassword = "{url.password}"\n'
        )
        for line in [each for each in shown if each.startswith("$ ")]:
            done = run(tmp_path, *shlex.split(line)[2:])
            text = (done.out + done.err).replace(
                f"127.0.0.1:{url.port}/{url.database}", "db1.example:3306/apim"
            )
            printed += [line, *(each for each in text.splitlines() if each)]
    assert printed == shown
