"""gatesync share create: by hand, and never where a share is only not mounted."""

import shutil
from pathlib import Path

import pytest

from gatesync.cli.output import Output
from gatesync.cli.running import EXIT_UNREACHABLE, EXIT_WRONG
from gatesync.cli.session import CommandError
from gatesync.cli.share import create
from gatesync.config import Settings, load

pytestmark = pytest.mark.fast


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    config = tmp_path / "deployment.toml"
    config.write_text("[apim.sync_runtime_artifacts.shared]\npath = 'mnt'\n")
    (tmp_path / "mnt").mkdir()
    return load(config).settings


def refused(settings: Settings) -> CommandError:
    with pytest.raises(CommandError) as caught:
        create(settings, Output(json=False))
    return caught.value


def test_a_share_is_made_once(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert create(settings, Output(json=False)) == 0
    assert f"share {tmp_path / 'mnt'} is made, of epoch " in capsys.readouterr().out
    assert (tmp_path / "mnt" / "gatesync.share").exists()
    assert refused(settings).code == EXIT_UNREACHABLE


def test_one_that_is_only_not_mounted_is_not_made_anew(settings: Settings, tmp_path: Path) -> None:
    create(settings, Output(json=False))
    shutil.rmtree(tmp_path / "mnt")
    assert "is no folder" in str(refused(settings))
    (tmp_path / "mnt").mkdir()
    assert "this publisher knows a share at" in str(refused(settings))
    shutil.rmtree(tmp_path / "gatesync-data" / "share")
    assert create(settings, Output(json=False)) == 0


def test_one_that_lost_its_marker_or_is_anothers_is_left_alone(
    settings: Settings, tmp_path: Path
) -> None:
    create(settings, Output(json=False))
    shutil.rmtree(tmp_path / "gatesync-data" / "share")
    assert "holds a share already" in str(refused(settings))
    (tmp_path / "mnt" / "gatesync.share").unlink()
    assert "holds a folder gatesync with files of a share" in str(refused(settings))


def test_a_file_that_names_no_share_is_wrong_input(tmp_path: Path) -> None:
    config = tmp_path / "deployment.toml"
    config.write_text("")
    assert refused(load(config).settings).code == EXIT_WRONG
