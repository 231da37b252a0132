"""The Git repository that the publisher stores in, on a server of the demo's own."""

import secrets
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from demo.processes import DemoError

__all__ = ["POLL_SECONDS", "Repository", "open_repository"]

POLL_SECONDS: Final = 2.0  # the default is 30; a demo should not be waited for
BRANCH: Final = "main"
_SCRIPTS: Final = Path(__file__).resolve().parents[1]
# What GitHub or GitLab does after a push, where a webhook is set up.
_POST_RECEIVE: Final = """\
#!/bin/sh
test -e {switch} || exit 0
PYTHONPATH={scripts} exec {python} -m demo.webhook {publisher} {secret_file}
"""


class Repository(msgspec.Struct, frozen=True):
    """A bare repository that is served over smart HTTP, to who knows the password.

    `login_url` is the URL with name and password in it, for people.
    """

    url: str
    login_url: str
    folder: Path
    username: str
    password: str
    webhook_secret: str

    @property
    def keys(self) -> dict[str, str | int]:
        """Those of `[apim.sync_runtime_artifacts.git]` that lead to it."""
        return {
            "url": self.url,
            "branch": BRANCH,
            "username": self.username,
            "password": self.password,
            "poll_interval": int(POLL_SECONDS * 1000),
            "webhook_secret": self.webhook_secret,
        }

    @property
    def webhook_switch(self) -> Path:
        """While this file is there, the server tells the publisher of each push."""
        return self.folder.parent / "webhook-is-on"

    def tell(self, publisher: str) -> None:
        """Set the webhook up, switched off: `publisher` is told (`HOST:PORT`)."""
        secret_file = self.folder.parent / "webhook-secret"
        secret_file.write_text(self.webhook_secret)
        hook = self.folder / "hooks" / "post-receive"
        words = {
            "switch": str(self.webhook_switch),
            "scripts": str(_SCRIPTS),
            "python": sys.executable,
            "publisher": f"http://{publisher}",
            "secret_file": str(secret_file),
        }
        quoted = {name: shlex.quote(word) for name, word in words.items()}
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(_POST_RECEIVE.format(**quoted))
        hook.chmod(0o755)


@contextmanager
def open_repository(folder: Path) -> Iterator[Repository]:
    """Serve a new repository from this folder, as the tests do.

    Raises `DemoError` where git is not installed.
    """
    sys.path.append(str(_SCRIPTS.parent))
    import pytest
    from tests.servers.git_http import git_http

    username, password = "demo", secrets.token_urlsafe(16)
    try:
        with git_http(folder, login=(username, password)) as server:
            url = server.create("apis.git")
            login_url = url.replace("://", f"://{username}:{password}@")
            where = server.folder / "apis.git"
            webhook_secret = secrets.token_urlsafe(32)
            yield Repository(url, login_url, where, username, password, webhook_secret)
    except pytest.skip.Exception as error:
        raise DemoError(f"STORE=git {error}") from None
