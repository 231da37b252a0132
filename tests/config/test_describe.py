import tomllib
from pathlib import Path

import pytest

from gatesync.config import as_toml, describe, load
from tests.config.conftest import Reading

pytestmark = pytest.mark.fast


def test_each_value_says_where_it_comes_from(reading: Reading, tmp_path: Path) -> None:
    loaded = reading.load("[server]\n\noffset = 2\n[[apim.gateway.environment]]\nname='A'")
    described = {item.key: item for item in describe(loaded)}
    assert described["server.offset"].origin == f"{tmp_path}/deployment.toml:3"
    assert described["gatesync.heartbeat_interval"].origin == "default"
    assert described["gatesync.publisher.listen"].value == "127.0.0.1:9642"
    assert described["gatesync.node_id"].origin == "default, from the host's name"
    assert described["gatesync.gateway.home"].value == str(tmp_path)
    assert described["gatesync.gateway.home"].origin == "default, the file's folder"
    assert described["apim.gateway.environment[0].name"].origin.endswith("deployment.toml:5")
    assert described["apim.gateway.environment[0].labels"].value == ["A"]
    assert described["apim.gateway.environment[0].service_url"].value is None


def test_it_is_toml_that_has_the_same_values(reading: Reading) -> None:
    loaded = reading.load(
        """
        [gatesync]
        data = 'a "quoted" \\ \u007f ü'
        [[apim.gateway.environment]]
        name = "A"
        [[apim.gateway.environment]]
        name = "B"
        [database.apim_db]
        url = "jdbc:h2:x"
        pool_options = { maxActive = 50, "a b" = true, c = 1.5 }
        """.replace("\u007f", "x")
    )
    described = describe(loaded)
    text = as_toml(described)
    document = tomllib.loads(text)
    assert document["gatesync"]["data"] == str(loaded.settings.data)
    assert [item["name"] for item in document["apim"]["gateway"]["environment"]] == ["A", "B"]
    assert document["database"]["apim_db"]["pool_options"] == {
        "maxActive": 50,
        "a b": True,
        "c": 1.5,
    }
    assert "# save_artifacts_locally is not set" in text
    for item in described:
        if item.index is None and item.value is not None:
            table = document
            for step in f"{item.table}.{item.name}".split("."):
                table = table[step]
            assert table == item.value


def test_reading_it_again_gives_the_same_settings(write: object, tmp_path: Path) -> None:
    first = load(None, environ={}, hostname="h")
    path = tmp_path / "again.toml"
    path.write_text(as_toml(describe(first)))
    again = load(path, environ={}, hostname="h")
    assert again.warnings == ()
    assert again.settings == first.settings
