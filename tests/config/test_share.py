"""The keys of `[apim.sync_runtime_artifacts.shared]`."""

from pathlib import Path

import pytest

from gatesync.config.share import SHARE_TABLE
from gatesync.stores.share_source import ShareSource
from tests.config.conftest import Reading

pytestmark = pytest.mark.fast


def test_without_a_path_there_is_no_share(reading: Reading) -> None:
    assert reading.load(f"[{SHARE_TABLE}]\nadopt = true").settings.share.source is None


def test_a_path_and_the_defaults(reading: Reading, tmp_path: Path) -> None:
    settings = reading.load(f"[{SHARE_TABLE}]\npath = 'mnt'\n[gatesync]\nnode_id = 'p1'").settings
    assert settings.share.source == ShareSource(
        path=tmp_path / "mnt",
        state=tmp_path / "gatesync-data" / "share",
        labels=("Production and Sandbox",),
        holder="p1",
    )


def test_every_key(reading: Reading, tmp_path: Path) -> None:
    text = (
        f"[{SHARE_TABLE}]\npath = '/mnt/apim'\nlabels = ['A', 'B']\nadopt = true\n"
        "check_interval = 500\nverify_interval = 60000\nanswer_timeout = 5000\n"
    )
    source = reading.load(text).settings.share.source
    assert source is not None
    assert (source.path, source.labels, source.adopt) == (Path("/mnt/apim"), ("A", "B"), True)
    assert (source.check_seconds, source.verify_seconds, source.deadline_seconds) == (0.5, 60, 5)


@pytest.mark.parametrize(
    ("role", "key", "name"),
    [
        ("publisher", "artifact_saver", "SharedFileSystemSaver"),
        ("gateway", "artifact_retriever", "SharedFileSystemRetriever"),
    ],
)
def test_who_uses_a_share_says_where_it_is(
    reading: Reading, role: str, key: str, name: str
) -> None:
    text = f"[apim.sync_runtime_artifacts.{role}]\n{key} = '{name}'"
    said = str(reading.problem(text))
    assert f"is {name}, which needs a mounted folder: the key path in [{SHARE_TABLE}]" in said
