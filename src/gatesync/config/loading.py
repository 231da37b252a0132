"""deployment.toml becomes settings: read, fill in, convert, check."""

import os
import re
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from gatesync.config.placeholders import Placeholders
from gatesync.config.plaintext import plaintext_beyond_loopback
from gatesync.config.positions import key_lines
from gatesync.config.problems import ConfigError, ConfigProblem, ConfigWarning
from gatesync.config.reader import Entry, Reader
from gatesync.config.secret_sources import SecretSources
from gatesync.config.sections import known_keys, read_settings
from gatesync.config.settings import Settings
from gatesync.config.unknown import find_unknown

__all__ = ["Checked", "Loaded", "check", "load"]

_FILE_MAX_BYTES = 1024 * 1024  # a real pack's file has some 10 kB


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that can be used, and where they come from.

    `entries` has each effective value with its origin (see `describe`). `ignored` names the
    tables of the file that only WSO2 reads.
    """

    settings: Settings
    warnings: tuple[ConfigWarning, ...]
    path: Path | None
    entries: tuple[Entry, ...]
    ignored: tuple[str, ...]

    @property
    def note(self) -> str:
        """One sentence about what in the file does not concern gatesync; empty if nothing."""
        names = ", ".join(f"[{table}]" for table in self.ignored)
        return f"not read by gatesync: {names}" if names else ""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """Everything there is to say about a file. `loaded` is None when there are problems."""

    problems: tuple[ConfigProblem, ...]
    warnings: tuple[ConfigWarning, ...]
    path: Path | None
    loaded: Loaded | None


def load(
    path: Path | None,
    *,
    environ: Mapping[str, str] | None = None,
    hostname: str | None = None,
    encrypted: bool = False,
) -> Loaded:
    """The settings of a file, or the defaults when there is none.

    Args:
        path: the file; relative paths in it begin at its folder. Without a file they begin at
            the current directory.
        environ: environment variables for placeholders; the process's own by default.
        hostname: this machine's name, for the default node id; asked of the system by default.
        encrypted: the servers are given certificates that the file does not name.

    Raises `ConfigError` with everything that is wrong.
    """
    checked = check(path, environ=environ, hostname=hostname, encrypted=encrypted)
    if checked.loaded is None:
        raise ConfigError(checked.problems, path)
    return checked.loaded


def check(
    path: Path | None,
    *,
    environ: Mapping[str, str] | None = None,
    hostname: str | None = None,
    encrypted: bool = False,
) -> Checked:
    """As `load`, but with the problems and the warnings in the answer. Does not raise."""
    environ = os.environ if environ is None else environ
    try:
        text, document = _parse(path) if path is not None else ("", {})
    except ConfigError as error:
        return Checked(problems=error.problems, warnings=(), path=path, loaded=None)
    secrets = SecretSources(path, environ)
    reader = Reader(document, key_lines(text), Placeholders(document, environ, secrets.read))
    folder = path.absolute().parent if path is not None else Path.cwd()
    settings = read_settings(reader, folder, _host_id(hostname or socket.gethostname()))
    for place, message in plaintext_beyond_loopback(settings, encrypted=encrypted):
        reader.problem(place, message)
    if (
        settings.traffic_manager.listen.anywhere
        and not settings.event_hub.event_listening_endpoints
    ):
        reader.warn(
            ("gatesync", "traffic_manager", "listen"),
            "is where gateways are told to find the broker, and from other machines they cannot; "
            "write this machine's own address, or name the broker in [apim.event_hub] "
            "event_listening_endpoints",
        )
    mistakes, ignored = find_unknown(document, known_keys())
    for place, message in mistakes:
        reader.warn(place, message)
    warnings = tuple(sorted(reader.warnings, key=lambda warning: warning.line))
    loaded = Loaded(
        settings=settings,
        warnings=warnings,
        path=path,
        entries=tuple(reader.entries),
        ignored=ignored,
    )
    problems = tuple(sorted(reader.problems, key=lambda problem: problem.line))
    return Checked(
        problems=problems, warnings=warnings, path=path, loaded=None if problems else loaded
    )


def _parse(path: Path) -> tuple[str, dict[str, Any]]:
    """The file's text and what TOML makes of it. Raises `ConfigError`."""
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror}") from error
    if len(content) > _FILE_MAX_BYTES:
        raise _unreadable(path, "is larger than 1 MiB; is it a deployment.toml?")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _unreadable(path, "is not UTF-8; save it as UTF-8", line) from None
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at line (\d+)", str(error))
        line = int(where[1]) if where else text.count("\n") + 1
        raise _unreadable(path, f"is not valid TOML: {error}", line) from None
    except RecursionError:
        raise _unreadable(path, "is nested too deeply") from None


def _unreadable(path: Path, message: str, line: int = 0) -> ConfigError:
    return ConfigError([ConfigProblem(message, line=line)], path)


def _host_id(hostname: str) -> str:
    """A host's name as a node id: `check_node_id` accepts it."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", hostname).lstrip("-_")[:64] or "node"
