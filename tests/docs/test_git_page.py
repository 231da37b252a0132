"""docs/git.md shows what the commands really print, and configurations that can be used."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatesync.config import load
from gatesync.config.git import GIT_TABLE
from tests.docs.following import Following, typed_in
from tests.servers.gatesync import EXAMPLES, Place, ask, place, until

PAGE = Path(__file__).parents[2] / "docs" / "git.md"
SECRET = "0123456789abcdef"
SERVER = "/srv/git"
PUBLISHER = "http://127.0.0.1:9640"
_WHO = re.compile(r"127\.0\.0\.1 \(\S+@\S+\)|commit [0-9a-f]{12}")
PERSON = "[user]\n\tname = Ann\n\temail = ann@example.com\n"


class Reader(Following):
    """Types what stands there, each command when the publisher has seen what was pushed before."""

    def __init__(self, made: Place, server: Path) -> None:
        super().__init__(made, {"up": made.role("up")})
        self.server = server
        self._home = made.folder / "home"
        self._home.mkdir()
        (self._home / ".gitconfig").write_text(PERSON)

    def known(self, text: str) -> str:
        text = text.replace(SERVER, str(self.server)).replace(PUBLISHER, self.place.publisher)
        return super().known(text)

    def _shell(self, line: str) -> str:
        if line.startswith("gatesync"):
            until(self._has_seen_all, "the publisher has seen the branch")
        if "--against-git" in line:
            line += " || test $? = 1"  # where anything differs
        printed = super()._shell(f"export HOME={self._home} LC_ALL=C; {line}")
        if line.startswith("find"):
            printed = "".join(sorted(printed.splitlines(keepends=True)))  # the disk's own order
        return printed

    def _compare(self, typed: str, printed: str, shown: list[str]) -> None:  # type: ignore[override]
        printed, shown = (
            _WHO.sub("FROM", printed),
            [_WHO.sub("FROM", line) for line in shown],
        )
        super()._compare(typed, printed, shown)

    def _has_seen_all(self) -> bool:
        """The last commit made a revision, or is told of."""
        command = ["git", "-C", str(self.server / "apis.git"), "rev-list", "--count", "main"]
        commits = int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        revisions = [head["revision"] for head in self.place.heads()]
        if max(revisions, default=1) == commits:
            return True
        return "not_served" in self.place.ask("/health/ready").json()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    server = tmp_path / "server"
    server.mkdir()
    command = ["git", "init", "--quiet", "--bare", "--initial-branch=main", "apis.git"]
    subprocess.run(command, cwd=server, check=True)
    with place(tmp_path / "site", labels=["Production"]) as made:
        shutil.copytree(EXAMPLES / "pizzashack", made.folder / "pizzashack")
        (made.folder / "webhook.secret").write_text(SECRET)
        with made.config.open("a") as config:
            config.write(
                '[apim.sync_runtime_artifacts.publisher]\nartifact_saver = "GitSaver"\n'
                f'[{GIT_TABLE}]\nurl = "{server}/apis.git"\npoll_interval = 100\n'
                f'webhook_secret = "{SECRET}"\n'
            )
        yield Reader(made, server)


def test_the_page_shows_what_the_commands_print(reader: Reader) -> None:
    reader.roles["up"].start()
    until(lambda: ask(reader.place.publisher, "/health/ready").status == 200, "it is ready")
    for block in typed_in(PAGE.read_text()):
        reader.follow(block)


@pytest.mark.fast
def test_its_configurations_can_be_used(tmp_path: Path) -> None:
    for name in ("git.token", "webhook.secret"):
        (tmp_path / name).write_text(SECRET)
        (tmp_path / name).chmod(0o600)
    blocks = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        (tmp_path / "deployment.toml").write_text(block)
        loaded = load(tmp_path / "deployment.toml")
        assert loaded.warnings == ()
        assert loaded.settings.git.source is not None
