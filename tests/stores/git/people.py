"""People who edit a branch in a work tree and push it."""

import shutil
from pathlib import Path

from gatesync.artifacts.model import SUPER_TENANT, Identity
from gatesync.stores.git_layout import files_in, folder_of
from tests.contracts.genuine import publish
from tests.stores.git.bench import git


class Person:
    """A clone with a work tree."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        git(folder, "init", "--quiet", "--initial-branch=main")
        git(folder, "remote", "add", "origin", url)

    def pull(self) -> None:
        git(self.folder, "fetch", "--quiet", "origin")
        git(self.folder, "reset", "--quiet", "--hard", "origin/main")

    def place(self, label: str, name: str) -> Path:
        identity = Identity(SUPER_TENANT, "api", name, "1.0.0")
        return self.folder / folder_of(label, identity)

    def put(self, label: str, name: str, content: str = "by hand", **asked: list[str]) -> Path:
        """Write an artifact's files."""
        place = self.place(label, name)
        shutil.rmtree(place, ignore_errors=True)
        for path, data in files_in(publish(name, content, **asked).content).items():
            file = place / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return place

    def remove(self, label: str, name: str) -> None:
        shutil.rmtree(self.place(label, name))

    def commit(self, message: str = "A change by hand") -> str:
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--allow-empty", "-m", message)
        return git(self.folder, "rev-parse", "HEAD").strip()

    def push(self, *options: str) -> None:
        git(self.folder, "push", "--quiet", *options, "origin", "HEAD:main")

    def share(self, message: str = "A change by hand") -> str:
        """Commit and push."""
        commit = self.commit(message)
        self.push()
        return commit
