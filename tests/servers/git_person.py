"""A person with a clone: edits files, commits and pushes with plain git."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from gatesync.artifacts.model import SUPER_TENANT, Identity
from gatesync.artifacts.paths import folder_of
from tests.servers.gatesync import TIMEOUT, sequence_xml
from tests.servers.git_http import GitHttp


class Person:
    """Works in a clone of a repository; `variables` are of git's environment."""

    def __init__(self, url: str, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        home = folder.with_name(f"{folder.name}-home")
        home.mkdir(parents=True)
        (home / ".gitconfig").write_text(
            "[user]\n\tname = A person\n\temail = person@example.com\n[gc]\n\tauto = 0\n"
        )
        path = {"PATH": os.environ.get("PATH", os.defpath)}
        own = {"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
        self._environment = path | own | dict(variables or {})
        self._run(["git", "clone", "--quiet", "--branch", "main", url, str(folder)], home)

    def git(self, *arguments: str) -> str:
        """Run git in the clone; answers with what it prints."""
        return self._run(["git", *arguments], self.folder)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write these below the clone."""
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def push(self, message: str) -> str:
        """Commit all that was changed on top of what others have pushed; answers with its id."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("pull", "--quiet", "--rebase")
        self.git("push", "--quiet")
        return self.git("rev-parse", "HEAD").strip()

    def _run(self, command: list[str], folder: Path) -> str:
        done = subprocess.run(
            command,
            cwd=folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def login_url(server: GitHttp, name: str = "apis.git") -> str:
    """The repository's URL with the server's login in it."""
    assert server.login is not None
    login = ":".join(quote(each, safe="") for each in server.login)
    return server.url(name).replace("://", f"://{login}@")


def sequence_files(label: str, name: str, text: str = "hello") -> dict[str, bytes]:
    """The files by which a person adds a sequence to a label."""
    folder = folder_of(label, Identity(SUPER_TENANT, "sequence", name, ""))
    toml = f'format = "gatesync.folder/1"\nkind = "sequence"\nname = "{name}"\n'
    return {
        f"{folder}/artifact.toml": toml.encode(),
        f"{folder}/sequences/{name}.xml": sequence_xml(name, text),
    }
