"""Where a gateway reads: what decides it, and a gateway process on each database."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Entry
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.planning import Publish
from gatesync.artifacts.synapse import artifact_from_xml
from gatesync.cli.retrieving import reads_from
from gatesync.config import ConfigError, load
from gatesync.stores.sql import open_sql_store
from gatesync.stores.store import SaveOutcome
from tests.contracts.saves import asked
from tests.servers.gatesync import LABEL, Place, document, place, publishing, sequence_xml
from tests.stores.reader_role import reader_of

OWN = "[database.sync_runtime_artifacts_db]\n"
PACKS = "[database.apim_db]\n"
POSTGRESQL = 'url = "jdbc:postgresql://db:5433/g"\nusername = "u"\npassword = "s3cret"\n'
NAMED = "[apim.sync_runtime_artifacts.gateway]\nartifact_retriever = "


def read_from(folder: Path, text: str) -> str:
    (folder / "deployment.toml").write_text(text)
    return reads_from(load(folder / "deployment.toml").settings)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "publisher http://127.0.0.1:9640"),
        (OWN + 'type = "sqlite"\n', "publisher http://127.0.0.1:9640"),
        (OWN + POSTGRESQL, "database postgresql://db:5433/g"),
        (OWN + POSTGRESQL + 'read_url = "jdbc:postgresql://r/g"', "database postgresql://r:5432/g"),
        (OWN + 'url = "jdbc:sqlite:/tmp/a.db"\n', "database sqlite:////tmp/a.db"),
        (PACKS + POSTGRESQL, "database postgresql://db:5433/g"),
        (PACKS + 'url = "jdbc:h2:./db"\ntype = "h2"\n', "publisher http://127.0.0.1:9640"),
        (NAMED + '"http"\n' + OWN + POSTGRESQL, "publisher http://127.0.0.1:9640"),
        (NAMED + '"sql"\n' + OWN + POSTGRESQL, "database postgresql://db:5433/g"),
        (NAMED + '"my.adapter:reader"\n', "my.adapter:reader"),
    ],
)
def test_db_retriever_is_the_database_where_the_file_names_one(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert read_from(tmp_path, text) == expected


@pytest.mark.fast
def test_a_database_that_is_insisted_on_must_be_one_that_can_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="h2, on which gatesync does not run"):
        read_from(tmp_path, NAMED + '"sql"\n' + PACKS + 'url = "jdbc:h2:./db"\ntype = "h2"\n')


@pytest.mark.fast
def test_reading_the_database_takes_no_terminal_or_xml_library_along() -> None:
    code = (
        "import sys;"
        "sys.modules['rich'] = None;"  # as a gateway has it: structlog would take rich along
        "import gatesync.stores.sql_retriever;"
        "there = {name for name, module in sys.modules.items() if module};"
        "print({'typer', 'rich', 'lxml', 'rfc8785', 'stamina', 'litestar'} & there)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def pair(tmp_path: Path, database: str) -> Iterator[tuple[Place, Place]]:
    """Where a publisher is to run on the database, and a gateway that knows the database."""
    with (
        place(tmp_path / "control") as control,
        place(tmp_path / "node", node="gw2", publisher=control.publisher) as node,
    ):
        use(control, database)
        yield control, node


def use(there: Place, database: str) -> None:
    with there.config.open("a") as file:
        file.write(f"{OWN}url = {json.dumps(database)}\n")


def append(database: str, name: str) -> str:
    """Commit a change as a publisher does that nobody hears of; answers with the digest."""
    artifact = artifact_from_xml(sequence_xml(name), f"{name}.xml")
    content = canonical.encode(artifact)
    entry = Entry(
        api_id=artifact.api_id,
        tenant=artifact.identity.tenant,
        kind=artifact.identity.kind,
        name=name,
        version=artifact.identity.version,
        context="",
        digest=digest_of(content),
        size=len(content),
    )

    async def save() -> None:
        async with open_sql_store(database) as store:
            [outcome] = await store.save([asked(LABEL, Publish(entry, content, ()))])
            assert isinstance(outcome, SaveOutcome), outcome

    asyncio.run(save())
    return entry.digest


@pytest.mark.promise(1)
def test_without_a_publisher_or_a_broker_it_follows_the_database(
    pair: tuple[Place, Place], database: str
) -> None:
    control, node = pair
    up = control.role("up").start()
    control.give_token(node, LABEL)
    with reader_of(database) as url:
        use(node, url)
        gateway = node.role("gateway").start()
        assert "reads=database" in gateway.said().replace(" ", "").replace("'", "")
        body = publishing(document("heard"))
        assert control.ask("/v1/changes", method="POST", body=body).status == 200
        gateway.wait_for(lambda: set(node.held()) == {"heard"}, "the event arrives")
        assert control.run("verify").code == 0
        assert up.stop() == 0

        digest = append(database, "unheard")
        gateway.wait_for(lambda: node.held().get("unheard") == digest, "it is in the database")
        assert set(node.held()) == {"heard", "unheard"}

        up.start()
        gateway.wait_for(lambda: control.run("verify").code == 0, "reports go on")
        assert gateway.stop() == 0
        assert "Traceback" not in gateway.said()


def test_it_starts_before_there_is_a_table_and_says_what_is_missing(
    pair: tuple[Place, Place], database: str
) -> None:
    control, node = pair
    use(node, database)
    control.data.mkdir(mode=0o700)
    control.give_token(node, LABEL)
    gateway = node.role("gateway").start(wait=False)

    def health() -> dict[str, object]:
        try:
            answer = node.health()
        except OSError:
            return {}
        return {**answer.json(), "code": answer.status}

    said = gateway.wait_for(lambda: health().get("store_error"), "it says what is missing")
    assert "no tables of gatesync yet" in said or "unable to open" in said
    assert health()["code"] == 503
    control.role("up").start()
    gateway.wait_for(lambda: health().get("code") == 200, "it is ready")
    assert not health()["store_error"]


def test_without_a_broker_it_is_verified_by_the_answers_to_its_reports(
    pair: tuple[Place, Place], database: str
) -> None:
    control, node = pair
    for each in pair:
        text = each.config.read_text()
        section = "[apim.event_hub]\n"
        text = text if section in text else section + text
        each.config.write_text(text.replace(section, section + "enable = false\n"))
    control.role("publisher").start()
    control.give_token(node, LABEL)
    with reader_of(database) as url:
        use(node, url)
        gateway = node.role("gateway").start()
        assert control.run("verify").code == 0  # of a label that was never used
        body = publishing(document("polled"))
        assert control.ask("/v1/changes", method="POST", body=body).status == 200
        gateway.wait_for(lambda: set(node.held()) == {"polled"}, "it asks for heads")
        assert control.run("verify").code == 0
        assert gateway.stop() == 0
