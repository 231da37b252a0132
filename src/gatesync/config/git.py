"""`[apim.sync_runtime_artifacts.git]`: the repository of `GitSaver` and `GitRetriever`."""

import re
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

import msgspec

from gatesync.config import kinds
from gatesync.config.adapters import WSO2_NAMES
from gatesync.config.problems import ConfigError, ConfigProblem, Invalid
from gatesync.config.reader import Reader, Section
from gatesync.secret import Secret, SecretUrl
from gatesync.stores.git_source import POLL_SECONDS, TIMEOUT_SECONDS, GitSource

__all__ = ["GIT_TABLE", "GitSettings", "read_git", "refuse_git_without_url"]

GIT_TABLE: Final = "apim.sync_runtime_artifacts.git"
AUTHOR: Final = "gatesync <gatesync@localhost>"
WEBHOOK_SECRET_MIN: Final = 16  # characters; who guesses it makes us look, and no more than that
_SCHEMES: Final = ("https", "http", "ssh", "file")
_FORMS: Final = "https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH or file:///PATH"
# `user@host:path`, as git itself tells it from a URL and from a folder.
_SCP: Final = re.compile(
    r"(?:[\w.+-]+@)?(?:[A-Za-z0-9][\w.-]*|\[[0-9A-Fa-f:.]+\]):(?!//)[^\0-\x20]+"
)
_AUTHOR: Final = re.compile(
    r"[^<>\0-\x20]([^<>\0-\x1f]*[^<>\0-\x20])? <[^<>@\0-\x20]+@[^<>@\0-\x20]+>"
)
# What git-check-ref-format(1) refuses, and a leading `-`, which would be an option.
_NO_BRANCH: Final = re.compile(
    r"[\0-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[/.-]|/\.|[/.]$|\.lock(/|$)|^@$|^refs/"
)


class _ScpUrl(SecretUrl):
    """`user@host:path`, which has no place for a password: shown as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return self.reveal()

    __str__ = __repr__


class GitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`source` is None where no repository is named.

    Its `cache` is the folder below which each role has a clone of its own. With a
    `webhook_secret` those who know it may say that something was pushed.
    """

    source: GitSource | None
    webhook_secret: Secret | None

    def source_of(self, role: str, key: str) -> GitSource:
        """The repository, with the clone of this role, which is asked to use it by `key`.

        Raises:
            ConfigError: none is named.
        """
        if self.source is None:
            reason = f"needs a repository: the key url in [{GIT_TABLE}]"
            raise ConfigError([ConfigProblem(reason, key)])
        return msgspec.structs.replace(self.source, cache=self.source.cache / role)


def read_git(
    reader: Reader, data: Path, folder: Path, *, allow_plaintext: bool = False
) -> GitSettings:
    """The section as a document gives it; faults are left in `reader.problems`."""
    ours, path = reader.section(GIT_TABLE), kinds.path_in(folder)
    url = ours.optional("url", _url)
    username = ours.optional("username", kinds.text)
    password = ours.optional("password", kinds.secret)
    token = ours.optional("token", kinds.secret)
    name, _, mail = ours.read("author", _author, AUTHOR).rpartition(" ")
    poll_ms = ours.read("poll_interval", kinds.milliseconds(100), int(POLL_SECONDS * 1000))
    timeout_ms = ours.read("timeout", kinds.milliseconds(1_000), int(TIMEOUT_SECONDS * 1000))
    bare, own_name, own_password = _split(url) if url is not None else (None, "", None)
    source = GitSource(
        url=bare or SecretUrl(""),
        cache=data / "git",
        branch=ours.read("branch", _branch, "main"),
        path=ours.optional("path", _folder) or "",
        username=username or own_name,
        password=password or token or own_password,
        ssh_key=ours.optional("ssh_key", path),
        known_hosts=ours.optional("known_hosts", path),
        author_name=name,
        author_email=mail.strip("<>"),
        signing_key=ours.optional("signing_key", path),
        allowed_signers=ours.optional("allowed_signers", path),
        ca=ours.optional("ca", path),
        allow_plaintext=allow_plaintext,
        poll_seconds=poll_ms / 1000,
        timeout=timeout_ms / 1000,
    )
    webhook = ours.optional("webhook_secret", _webhook_secret)
    if bare is None:
        _refuse_without_url(ours, source, webhook)
        return GitSettings(source=None, webhook_secret=webhook)
    if password is not None and token is not None:
        ours.problem("token", "cannot stand beside password; keep one of the two")
    elif own_password is not None and (password or token):
        ours.problem("url", "holds a password, and another stands beside it; keep one of the two")
    _refuse_what_is_not_for(ours, source, bool(token))
    return GitSettings(source=source, webhook_secret=webhook)


def _refuse_without_url(ours: Section, source: GitSource, webhook: Secret | None) -> None:
    if ours.reader.lookup(ours.place("url")) is None and (
        source.password or source.ssh_key or source.signing_key or webhook
    ):
        ours.problem("url", f"is needed beside the other keys: {_FORMS}")


def refuse_git_without_url(reader: Reader, git: GitSettings, saver: str, retriever: str) -> None:
    """Who stores in Git, or reads from there, has to say where: better now than at the start."""
    place = reader.section(GIT_TABLE).place("url")
    if git.source is not None or reader.lookup(place) is not None:
        return
    for role, key, name in (
        ("publisher", "artifact_saver", saver),
        ("gateway", "artifact_retriever", retriever),
    ):
        if WSO2_NAMES.get(name, name) == "git":
            table = reader.section(f"apim.sync_runtime_artifacts.{role}")
            table.problem(key, f"is {name}, which needs a repository: the key url in [{GIT_TABLE}]")


def _refuse_what_is_not_for(ours: Section, source: GitSource, token: bool) -> None:
    """What a transport would pass over in silence, somebody meant."""
    scheme = _scheme(source.url.reveal())
    own = "https" if scheme == "http" else scheme
    given = {
        "username": ("https", source.username),
        "token" if token else "password": ("https", source.password),
        "ca": ("https", source.ca),
        "ssh_key": ("ssh", source.ssh_key),
        "known_hosts": ("ssh", source.known_hosts),
    }
    for name, (transport, value) in given.items():
        if value and own != transport:
            ours.problem(name, f"is for {transport}, and the url is of {scheme}; take it out")
    if own == "https" and source.username and source.password is None:
        ours.problem("username", "has no password or token beside it")


def _url(value: object) -> SecretUrl:
    given = kinds.text(value)
    if given.startswith("/"):
        given = f"file://{quote(given)}"
    if given.startswith("-") or any(char <= " " for char in given):
        raise Invalid(f"must be {_FORMS}, without spaces")
    scheme = _scheme(given)
    if scheme not in _SCHEMES or (scheme == "ssh" and "://" not in given):
        if _SCP.fullmatch(given):
            return _ScpUrl(given)
        raise Invalid(f"must be {_FORMS}")
    parts = _parts(given)
    if parts.query or parts.fragment:
        raise Invalid("must have no ? and no #")
    if scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        raise Invalid("must be file:///PATH, with the whole path of a folder of this machine")
    if scheme != "file" and not (parts.hostname and parts.path.strip("/")):
        raise Invalid(f"must be {_FORMS}")
    if scheme == "ssh" and parts.password is not None:
        raise Invalid("must hold no password: ssh asks for a key; use ssh_key")
    return SecretUrl(given)


def _scheme(url: str) -> str:
    scheme, found, _ = url.partition("://")
    return scheme if found else "ssh"


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises where it is none
    except ValueError:
        raise Invalid(f"must be {_FORMS}, with a port from 0 to 65535") from None
    return parts


def _split(url: SecretUrl) -> tuple[SecretUrl, str, Secret | None]:
    """The URL without its login, and the login: git's own messages and ps(1) show URLs."""
    parts = urlsplit(url.reveal())
    if parts.scheme not in ("https", "http") or parts.username is None:
        return url, "", None
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    password = None if parts.password is None else Secret(unquote(parts.password))
    return SecretUrl(bare), unquote(parts.username), password


def _branch(value: object) -> str:
    given = kinds.text(value)
    if _NO_BRANCH.search(given):
        raise Invalid('must be the name of a branch, such as "main"')
    return given


def _folder(value: object) -> str:
    given = kinds.any_text(value)
    steps = PurePosixPath(given).parts
    bad = any(step in ("..", "/") or step.lower() == ".git" for step in steps)
    if bad or "\\" in given or any(char < " " for char in given):
        raise Invalid('must be a folder inside the repository, such as "apis/production"')
    return "/".join(steps)


def _author(value: object) -> str:
    given = kinds.text(value)
    if not _AUTHOR.fullmatch(given):
        raise Invalid('must be a name and an address, such as "gatesync <gatesync@example.com>"')
    return given


def _webhook_secret(value: object) -> Secret:
    given = kinds.secret(value)
    if len(given.reveal()) < WEBHOOK_SECRET_MIN or not given.reveal().isascii():
        raise Invalid(
            f"must have at least {WEBHOOK_SECRET_MIN} characters, all of them ASCII, such as "
            "`openssl rand -hex 32` prints"
        )
    return given
