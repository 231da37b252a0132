"""Between a database and Git: export, import, and what differs."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gatesync.config.git import GIT_TABLE
from tests.servers.gatesync import EXAMPLES, Done, Place, place, sequence_xml
from tests.servers.git_http import GitHttp, git_http
from tests.servers.git_person import Person, sequence_files
from tests.servers.in_process import runner

Run = Callable[[Sequence[str | Path], str], Done]


class Stored:
    """A publisher that stores in Git, and its repository."""

    def __init__(self, server: GitHttp, there: Place) -> None:
        self.server = server
        self.there = there

    @property
    def folder(self) -> Path:
        return self.server.folder / "apis.git"


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    folder = tmp_path_factory.mktemp("git")
    with git_http(folder / "server") as server, place(folder / "publisher") as there:
        url = server.create()
        with there.config.open("a") as file:
            saver = '[apim.sync_runtime_artifacts.publisher]\nartifact_saver = "GitSaver"\n'
            file.write(f'{saver}[apim.event_hub]\nenable = false\n[{GIT_TABLE}]\nurl = "{url}"\n')
        there.role("publisher").start()
        yield Stored(server, there)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path, monkeypatch, capsys)


def at(there: Place, run: Run, *arguments: str | Path) -> Done:
    return run([*arguments, "--publisher", there.publisher], there.operator)


def held(there: Place, run: Run, label: str) -> set[tuple[str, str]]:
    listed = at(there, run, "list", "--label", label, "--json").json()["artifacts"]
    return {(each["entry"]["api_id"], each["entry"]["digest"]) for each in listed}


def test_out_of_a_database_into_git_and_back_everything_is_the_same(
    cluster: Place, git: Stored, run: Run, name: str, tmp_path: Path
) -> None:
    (tmp_path / "audit.xml").write_bytes(sequence_xml("audit"))
    paths = (EXAMPLES / "pizzashack", tmp_path / "audit.xml")
    assert at(cluster, run, "publish", *paths, "--label", name).code == 0
    assert at(cluster, run, "export", "--label", name, "--to", "out").code == 0

    done = at(git.there, run, "import", "out")

    assert done.code == 0, done.err
    assert held(git.there, run, name) == held(cluster, run, name)
    assert len(held(git.there, run, name)) == 2
    # A branch has what an export has, file by file.
    person = Person(git.server.url(), tmp_path / "clone")
    exported = {p.relative_to(tmp_path / "out"): p for p in (tmp_path / "out").rglob("*.*")}
    for path, file in exported.items():
        if file.is_file():
            assert (person.folder / path).read_bytes() == file.read_bytes()
    back = at(cluster, run, "import", person.folder / name.partition("/")[0], "--label", name)
    assert back.out == "nothing changed: the labels hold exactly this already\n"
    assert at(git.there, run, "export", "--label", name, "--to", "again").code == 0
    again = {p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*.*")}
    assert again == set(exported)


def test_what_the_cluster_serves_is_compared_with_the_branch(
    cluster: Place, git: Stored, run: Run, name: str, tmp_path: Path
) -> None:
    def diff(*arguments: str) -> Done:
        config = git.there.config
        return at(cluster, run, "diff", *arguments, "--against-git", "-l", name, "-c", config)

    shutil.copytree(EXAMPLES / "pizzashack", tmp_path / "pizzashack")
    for there in (cluster, git.there):
        assert at(there, run, "publish", "pizzashack", "--label", name).code == 0
    same = diff()
    assert (same.code, same.out) == (0, f"{name}: 1 of 1 artifacts are the same\n")
    assert diff("PizzaShackAPI").code == 0

    (tmp_path / "audit.xml").write_bytes(sequence_xml("audit"))
    assert at(cluster, run, "publish", "audit.xml", "--label", name).code == 0
    person = Person(git.server.url(), tmp_path / "clone")
    (xml,) = person.folder.glob(f"{name}*/*/api/PizzaShackAPI*/*/api/*.xml")
    xml.write_text(xml.read_text().replace("</api>", "<!-- mine --></api>"))
    person.write(sequence_files(name, "mine"))
    person.push("Mine")

    found = diff()
    assert found.code == 1
    assert found.out.splitlines() == [
        f"{name}: 0 of 3 artifacts are the same",
        "  only in Git          sequence mine",
        "  only in the cluster  sequence audit",
        "  different            api PizzaShackAPI 1.0.0",
    ]
    one = diff("PizzaShackAPI")
    assert one.code == 1
    assert "-   <!-- mine -->" in one.out or "-  <!-- mine -->" in one.out
    assert f"{name}, in Git" in one.out

    broken = sequence_files(name, "broken")
    (place_of_xml,) = (path for path in broken if path.endswith(".xml"))
    person.write(broken | {place_of_xml: b"<sequence"})
    person.push("Half a file")
    told = diff("--json").json()
    assert [place_of_xml in reason for reason in next(iter(told["not_valid"].values()))] == [True]
    assert told["labels"][0]["only_in_git"] == ["sequence mine"]


def test_wrong_use_is_told(cluster: Place, run: Run, tmp_path: Path) -> None:
    (tmp_path / "deployment.toml").write_text("")
    config = ("--config", "deployment.toml")
    nameless = at(cluster, run, "diff")
    assert nameless.code == 2
    assert "say which artifact: its NAME; or give --against-git" in nameless.err
    nowhere = at(cluster, run, "diff", "--against-git", *config)
    assert nowhere.code == 2
    assert f"needs a repository: the key url in [{GIT_TABLE}]" in nowhere.err
    both = at(cluster, run, "diff", "x", "--against-git", "--from", "1", *config)
    assert both.code == 2
    (tmp_path / "deployment.toml").write_text(f'[{GIT_TABLE}]\nurl = "{tmp_path}/none.git"\n')
    missing = at(cluster, run, "diff", "--against-git", *config)
    assert missing.code == 3
    assert "there is no" in missing.err
