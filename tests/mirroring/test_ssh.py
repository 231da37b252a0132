"""The file that tells ssh everything, and what stands in the way of using it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from gatesync.mirroring.ssh import (
    ControlFolder,
    SshConfig,
    SshError,
    SshSettings,
    check_identity_file,
)
from gatesync.mirroring.workers import SshHost

pytestmark = pytest.mark.fast

HOST = SshHost("ubuntu", "192.168.1.1", None)
OTHER = SshHost("", "fe80::1%eth0", 2222)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "a key.pem"
    path.write_text("secret")
    path.chmod(0o600)
    return path


def told(config: SshConfig, host: SshHost) -> dict[str, str]:
    """What ssh itself makes of the file, for a host."""
    if shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH: apt-get install openssh-client")
    command = ["ssh", "-G", "-F", str(config.path), config.alias(host)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_ssh_understands_the_file(tmp_path: Path, key: Path) -> None:
    known = tmp_path / "known hosts"
    settings = SshSettings(identity_file=key, known_hosts=known, connect_seconds=7)
    with ControlFolder(tmp_path / "c") as folder:
        config = SshConfig(settings, folder, [HOST, OTHER, HOST])
        first, second = told(config, HOST), told(config, OTHER)
        assert (first["hostname"], first["user"], first["port"]) == ("192.168.1.1", "ubuntu", "22")
        assert (second["hostname"], second["port"]) == ("fe80::1%eth0", "2222")
        assert (first["identityfile"], first["identitiesonly"]) == (str(key), "yes")
        assert first["userknownhostsfile"] == str(known)
        assert first["stricthostkeychecking"] == "accept-new"
        assert first["batchmode"] == "yes"
        assert first["connecttimeout"] == "7"
        assert first["controlpath"] == str(config.socket(HOST))
        assert config.socket(HOST) != config.socket(OTHER)
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_hosts_that_were_never_seen_can_be_refused(tmp_path: Path) -> None:
    with ControlFolder(tmp_path) as folder:
        config = SshConfig(SshSettings(strict_host_keys=True), folder, [HOST])
        assert told(config, HOST)["stricthostkeychecking"] == "true"
        assert told(config, HOST)["identitiesonly"] == "no"  # an agent may have several


def test_a_file_of_the_users_own_comes_after_ours(tmp_path: Path) -> None:
    own = tmp_path / "own config"
    own.write_text("Host *\n  ProxyJump bastion\n  BatchMode no\n")
    with ControlFolder(tmp_path) as folder:
        config = SshConfig(SshSettings(extra_config=own), folder, [HOST])
        assert told(config, HOST)["proxyjump"] == "bastion"
        assert told(config, HOST)["batchmode"] == "yes"


@pytest.mark.parametrize("awkward", ['"', "\n", "%h", "${HOME}"])
def test_a_file_whose_name_ssh_would_expand_is_refused(tmp_path: Path, awkward: str) -> None:
    settings = SshSettings(known_hosts=tmp_path / f"known{awkward}")
    with ControlFolder(tmp_path) as folder, pytest.raises(SshError, match="rename it"):
        SshConfig(settings, folder, [HOST])


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_may_use_is_refused_before_anything_is_connected(
    key: Path, mode: int, tmp_path: Path
) -> None:
    key.chmod(mode)
    with ControlFolder(tmp_path) as folder, pytest.raises(SshError) as refused:
        SshConfig(SshSettings(identity_file=key), folder, [HOST])
    assert f"{mode:04o}" in str(refused.value)
    assert f"chmod 600 {key}" in str(refused.value)


def test_a_key_that_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SshError, match="No such file"):
        check_identity_file(tmp_path / "none")
    with pytest.raises(SshError, match="cannot be read"):
        check_identity_file(tmp_path)


@pytest.mark.parametrize("name", ["a space", "l" * 90, "it's", "per%cent"])
def test_a_folder_that_ssh_or_rsync_cannot_handle_is_replaced_by_a_short_one(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    with ControlFolder(tmp_path / name) as folder:
        assert len(str(folder)) < 40
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
