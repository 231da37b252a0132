"""`gatesync rsync` as its users type it: what it prints, and how it ends."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.mirroring.workers import Source, Workers, needs_rsync
from tests.promises.rsync_hosts import path_of, texts, write
from tests.servers.gatesync import Done, Place
from tests.servers.in_process import runner
from tests.servers.sshd import Sshd, sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    needs_rsync()
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


class Command:
    """The command in a folder with a list and a source; `more` goes with each call."""

    def __init__(
        self, folder: Path, workers: Workers, run: Callable[[Sequence[str | Path], str], Done]
    ) -> None:
        self.folder = folder
        self.workers = workers
        self.source = Source(folder / "repository")
        self.list = folder / "workers-list.txt"
        self._run = run
        write(self.source, "one", "1")
        write(self.source, "two", "2")
        self.list.write_text("\n".join(["# workers", *workers.lines, ""]))

    def options(self) -> list[str]:
        server = self.workers.server
        return [
            *("--workers", "workers-list.txt", "--source", "repository"),
            *("--identity-file", str(server.identity_file)),
            *("--known-hosts", str(server.known_hosts)),
        ]

    def __call__(self, *more: str | Path, token: str = "") -> Done:
        return self._run(["rsync", *self.options(), *more], token)

    def other(self, *words: str | Path) -> Done:
        return self._run(["rsync", *words], "")


@pytest.fixture
def command(
    tmp_path: Path,
    server: Sshd,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    workers = Workers(tmp_path / "workers", server, ["w1", "w 2"])
    return Command(tmp_path, workers, runner(tmp_path, monkeypatch, capsys))


def test_in_a_pipe_it_is_quiet_where_all_is_well(command: Command) -> None:
    assert command("--once", "--log-file", "rsync.log") == (0, "", "")
    command.workers.assert_all_like(command.source)
    assert command() == (0, "", "")
    said = (command.folder / "rsync.log").read_text()
    assert "source: revision 1, 2 files" in said
    assert "w1/deployment/server: brought in step; 2 files brought" in said


def test_a_dry_run_says_what_would_be_done_and_does_nothing(command: Command) -> None:
    done = command("--dry-run")
    assert done.code == 0
    path = path_of("one").removeprefix("deployment/server/")
    assert done.out.count(f"  + {path}\n") == 2
    assert texts(command.workers, "one") == ["", ""]
    assert not (command.folder / "gatesync-data").exists()
    assert command().code == 0
    command.source.remove(path_of("one"))
    again = command("--dry-run")
    assert again.out.count(f"  - {path}\n") == 2
    assert texts(command.workers, "one") == ["1", "1"]


def test_json_is_one_document(command: Command) -> None:
    done = command("--json")
    assert (done.code, done.err) == (0, "")
    document = done.json()
    assert (document["format"], document["revision"]) == ("gatesync.rsync/1", 1)
    assert [each["result"] for each in document["workers"]] == ["brought in step"] * 2
    assert [each["revision"] for each in document["workers"]] == [1, 1]


def test_one_worker_that_fails_is_named_and_the_code_is_1(command: Command) -> None:
    command.list.write_text(
        f"{command.workers.lines[0]}\nssh://nobody@127.0.0.1:1/srv/repository/tenants\n"
    )
    done = command()
    assert done.code == 1
    [line] = done.err.splitlines()
    assert line.startswith("gatesync: ssh://nobody@127.0.0.1:1/srv/repository/tenants: failed; ")
    assert "Connection refused" in line
    assert texts(command.workers, "one") == ["1", ""]
    status = command.other("status")
    assert status.code == 1
    first, second = status.out.splitlines()[1:]
    assert "failed" in first
    assert "Connection refused" in first
    assert "in step" in second


def test_a_line_that_is_none_is_told_and_the_others_are_served(command: Command) -> None:
    command.list.write_text(f"nonsense\n{command.workers.lines[0]}\n")
    done = command()
    assert done.code == 1
    assert "left out: workers-list.txt, line 1: 'nonsense' is not of the form" in done.err
    assert texts(command.workers, "one") == ["1", ""]


def test_a_file_that_is_broken_is_told_and_the_others_are_brought(command: Command) -> None:
    command.source.write(path_of("three"), "<sequence")
    done = command()
    assert done.code == 1
    assert path_of("three") in done.err
    assert texts(command.workers, "two") == ["2", "2"]
    assert texts(command.workers, "three") == ["", ""]


def test_removing_more_than_half_waits_for_a_word(command: Command) -> None:
    write(command.source, "three", "3")
    assert command().code == 0
    command.source.remove(path_of("one"))
    command.source.remove(path_of("two"))
    done = command()
    assert done.code == 1
    assert "--confirm-removals carries the removals out" in done.err
    assert texts(command.workers, "one") == ["1", "1"]
    assert command("--confirm-removals").code == 0
    command.workers.assert_all_like(command.source)


def test_mirror_removes_what_the_source_never_had(command: Command) -> None:
    folder, _ = command.workers.parts[0]
    (folder / "mine.txt").write_text("mine")
    assert command().code == 0
    assert (folder / "mine.txt").exists()
    done = command("--mirror", "--full-every", "1ms", "--confirm-removals")
    assert (done.code, done.err) == (0, "")
    assert not (folder / "mine.txt").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--identity-file", "gone.pem"), "the identity file gone.pem cannot be read"),
        (("--json", "--watch"), "--json goes with --once"),
        (("--source", "workers"), "has neither deployment/server nor tenants"),
        (("--jobs", "0"), "--jobs"),
    ],
)
def test_wrong_use_ends_with_2(command: Command, options: tuple[str, ...], reason: str) -> None:
    done = command(*options)
    assert done.code == 2
    assert reason in done.err.replace("\n", " ")


def test_a_key_that_others_can_read_ends_with_2(command: Command) -> None:
    key = command.folder / "key.pem"
    key.write_bytes(command.workers.server.identity_file.read_bytes())
    key.chmod(0o644)
    done = command("--identity-file", "key.pem")
    assert done.code == 2
    assert "has mode 0644: others may use the key, and ssh ignores it; do: chmod 600" in done.err
    assert texts(command.workers, "one") == ["", ""]


def test_what_is_missing_is_named(command: Command) -> None:
    done = command.other("--workers", "workers-list.txt")
    assert (done.code, done.err) == (2, "gatesync: --source is missing\n")
    done = command.other("status", "--name", "never")
    assert done.code == 1
    assert "no runner has been at it" in done.err


def test_the_receipts_stand_in_gatesync_gateways(
    command: Command, cluster: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"m{os.getpid()}"
    config = command.folder / "deployment.toml"
    config.write_text(
        f'[gatesync]\nnode_id = "{name}"\n[gatesync.gateway]\n'
        f'token = "{cluster.create_token("node", name, "Second")}"\n'
        f'[apim.event_hub]\nservice_url = "{cluster.publisher}"\n'
    )
    assert command("--config", config) == (0, "", "")
    rows = {each["status"]["worker"]: each for each in gateways(cluster)}
    for line in command.workers.lines:
        status = rows[line]["status"]
        assert (rows[line]["runner"], rows[line]["lost"]) == (name, False)
        assert (status["state"], status["revision"], status["files"]) == ("in step", 1, 2)
        assert status["sent_bytes"] > 100
        assert status["took_us"] > 0
    # With an operator's token, too; a publisher that is away keeps nobody from their files.
    write(command.source, "three", "3")
    done = command(
        *("--publisher", cluster.publisher, "--publisher", "http://127.0.0.1:1"),
        *("--config", config),
        token=cluster.operator,
    )
    assert done.code == 0
    assert [gateways_of(cluster, line) for line in command.workers.lines] == [2, 2]
    assert texts(command.workers, "three") == ["3", "3"]


def gateways(cluster: Place) -> Any:
    return cluster.ask("/v1/gateways").json()["workers"]


def gateways_of(cluster: Place, line: str) -> int:
    [row] = [each for each in gateways(cluster) if each["status"]["worker"] == line]
    return int(row["status"]["revision"])


def test_what_install_prints_does_what_was_asked_for(command: Command) -> None:
    done = command.other("install", "--cron", *command.options(), "--every", "5m", "--mirror")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"*/5 * * * * cd {command.folder} && ")
    assert " --mirror " in done.out
    assert done.out.endswith(" --once\n")
    assert f"--source {command.folder}/repository " in done.out
    unit = command.other("install", "--systemd", *command.options(), "--once").out
    [start] = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert start.endswith(" --watch")
    assert "--once" not in start
    assert f"--workers {command.folder}/workers-list.txt " in start


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "give --cron or --systemd"),
        (("--cron", "--systemd"), "give --cron or --systemd"),
        (("--cron", "--every", "90s"), "cron starts things at whole minutes"),
        (("--cron", "--nonsense"), "--nonsense"),
        (("--cron", "more"), "'more' is no option of gatesync rsync"),
        (("--cron", "--workers", "gone"), "the workers' list gone cannot be read"),
    ],
)
def test_install_checks_what_it_is_given(
    command: Command, words: tuple[str, ...], reason: str
) -> None:
    done = command.other("install", *command.options(), *words)
    assert (done.code, done.out) == (2, "")
    assert reason in done.err.replace("\n", " ")
