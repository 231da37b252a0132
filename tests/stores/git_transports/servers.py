"""Git servers of each kind, and the sources that lead to repositories on them."""

import itertools
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from gatesync.secret import Secret, SecretUrl
from gatesync.stores.git_source import GitSource
from tests.servers.gatesync import TIMEOUT
from tests.servers.git_http import GitHttp, git_http
from tests.servers.sshd import HOST, Sshd, sshd
from tests.web.certificates import LOOPBACK, Authority

LOGIN = ("gatesync", "p@ss:w/ord")
_numbers = itertools.count(1)


def source(url: str, cache: Path) -> GitSource:
    """Looked at only when somebody asks: no test waits for an interval."""
    return GitSource(url=SecretUrl(url), cache=cache, poll_seconds=3600.0)


def with_login(found: GitSource, login: tuple[str, str] = LOGIN) -> GitSource:
    return replace(found, username=login[0], password=Secret(login[1]))


class HttpHost:
    """A smart HTTP server on which each test has a repository of its own."""

    def __init__(self, server: GitHttp, ca: Path | None = None) -> None:
        self.server = server
        self._ca = ca

    def new_source(self, cache: Path) -> GitSource:
        found = source(self.server.create(f"{next(_numbers)}.git"), cache)
        found = replace(found, ca=self._ca)
        return found if self.server.login is None else with_login(found)


class SshHost:
    """The same for ssh."""

    def __init__(self, server: Sshd, folder: Path) -> None:
        self.server = server
        self._folder = folder

    def new_source(self, cache: Path) -> GitSource:
        folder = self._folder / f"{next(_numbers)}.git"
        command = ["git", "init", "--quiet", "--bare", str(folder)]
        subprocess.run(command, check=True, timeout=TIMEOUT)
        found = source(f"ssh://{self.server.user}@{HOST}:{self.server.port}{folder}", cache)
        return replace(
            found, ssh_key=self.server.identity_file, known_hosts=self.server.known_hosts
        )


Host = HttpHost | SshHost


@contextmanager
def host(kind: str, folder: Path) -> Iterator[Host]:
    """Run a server: `http`, `http with login`, `https` (with a login, too) or `ssh`."""
    if kind == "ssh":
        (folder / "repositories").mkdir()
        with sshd(folder / "sshd") as server:
            yield SshHost(server, folder / "repositories")
        return
    if kind == "https":
        authority = Authority(folder / "authority")
        pair = authority.issue("server", *LOOPBACK)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        with git_http(folder / "git", login=LOGIN, tls=context) as served:
            yield HttpHost(served, authority.file)
        return
    with git_http(folder / "git", login=LOGIN if kind == "http with login" else None) as served:
        yield HttpHost(served)
