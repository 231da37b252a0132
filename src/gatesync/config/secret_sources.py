"""`[gatesync.secrets]`: a secret in a file, in the environment, or printed by a command.

    [gatesync.secrets]
    database = { file = "database.password" }
    broker = { environment = "BROKER_PASSWORD" }
    admin = { command = ["pass", "show", "gatesync/admin"] }

A value asks for one with `$secret{database}`. No message has anything of a secret in it, nor of
what a command printed.
"""

import contextlib
import os
import selectors
import signal
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from gatesync.config.problems import Invalid
from gatesync.config.secret import secret_in_file

__all__ = ["SecretSource", "SecretSources", "secret_sources"]

COMMAND_SECONDS: Final = 10.0  # a start waits for it
OUTPUT_MAX_BYTES: Final = 64 * 1024  # as much as a file may hold
_CHUNK_BYTES: Final = 8 * 1024

_LATE: Final = f"did not end within {COMMAND_SECONDS:g} s"
_FORMS: Final = '{ file = "..." }, { environment = "..." } or { command = ["...", "..."] }'


class SecretSource(msgspec.Struct, frozen=True):
    """Where one secret is: `what` is the file, the variable, or a command with its arguments."""

    how: str
    what: tuple[str, ...]

    def __repr__(self) -> str:
        """For `config show`: a command without its arguments, which may be private."""
        more = f" and {len(self.what) - 1} arguments" if len(self.what) > 1 else ""
        return f"{self.how} {self.what[0]}{more}"

    __str__ = __repr__


def secret_sources(value: object) -> Mapping[str, SecretSource]:
    """The kind of `[gatesync.secrets]`: aliases, and where each is."""
    if not isinstance(value, dict):
        raise Invalid("must be a table; write [gatesync.secrets]")
    return {alias: _source(alias, each) for alias, each in value.items()}


class SecretSources:
    """Reads secrets from where they are.

    Args:
        path: the file with `[gatesync.secrets]`, whose folder relative paths begin at.
        environ: environment variables; commands run with them.
    """

    def __init__(self, path: Path | None, environ: Mapping[str, str]) -> None:
        self._path = path
        self._folder = path.absolute().parent if path is not None else Path.cwd()
        self._environ = environ

    def read(self, alias: str, given: object) -> str:
        """The secret of an alias. Raises `Invalid` that names the alias and what failed."""
        source = _source(alias, given)
        try:
            match source.how:
                case "file":
                    return secret_in_file(self._folder / Path(source.what[0]).expanduser())
                case "environment":
                    return self._variable(source.what[0])
                case _:
                    return self._printed(source.what)
        except Invalid as error:
            raise Invalid(f"needs the secret {alias} of [gatesync.secrets]: {error}") from None

    def _variable(self, name: str) -> str:
        if not self._environ.get(name):
            raise Invalid(f"the environment variable {name} is not set, or empty; set it")
        return self._environ[name]

    def _printed(self, command: Sequence[str]) -> str:
        """What a command prints, without the line break at its end."""
        self._refuse_commands_of_others()
        program = command[0]
        try:
            process = subprocess.Popen(  # noqa: S603 - whoever writes the file is trusted
                command,
                cwd=self._folder,
                env=dict(self._environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # nobody knows what it says there
                start_new_session=True,  # so that its children can be ended with it
            )
        except OSError as error:
            raise Invalid(f"the command {program} cannot be run: {error.strerror}") from None
        except ValueError:
            raise Invalid(f"the command {program} has a NUL character in it") from None
        with process:
            try:
                assert process.stdout is not None
                deadline = time.monotonic() + COMMAND_SECONDS
                output = _output(process.stdout, deadline)
                code = process.wait(max(0.0, deadline - time.monotonic()))
            except (Invalid, subprocess.TimeoutExpired) as error:
                _kill(process)
                said = str(error) if isinstance(error, Invalid) else _LATE
                raise Invalid(f"the command {program} {said}") from None
            except BaseException:  # whatever ends this, the command does not outlive it
                _kill(process)
                raise
        if code:
            how = f"exit status {code}" if code > 0 else signal.Signals(-code).name
            raise Invalid(
                f"the command {program} failed ({how}); run it by hand to see why, "
                "as the user and in the folder that gatesync has"
            )
        return _text(output, program)

    def _refuse_commands_of_others(self) -> None:
        """Who can write the file could have any command run."""
        if self._path is None:
            return
        mode = stat.S_IMODE(self._path.stat().st_mode)
        if mode & 0o022:
            raise Invalid(
                f"a command is run only where nobody else can write the file that names it; "
                f"{self._path} has mode {mode:04o}; run chmod go-w on it"
            )


def _source(alias: str, given: object) -> SecretSource:
    if not isinstance(given, dict) or len(given) != 1:
        raise Invalid(f"must give the secret {alias} as {_FORMS}")
    ((how, what),) = given.items()
    texts = what if how == "command" else [what]
    good = isinstance(texts, list) and texts and all(isinstance(t, str) for t in texts)
    if how not in ("file", "environment", "command") or not good or not texts[0]:
        raise Invalid(f"must give the secret {alias} as {_FORMS}")
    return SecretSource(how, tuple(texts))


def _output(pipe: IO[bytes], deadline: float) -> bytes:
    """All that comes until the end. Raises `Invalid` where that is too much, or too late."""
    chunks: list[bytes] = []
    size = 0
    with selectors.DefaultSelector() as waiting:
        waiting.register(pipe, selectors.EVENT_READ)
        while waiting.select(max(0.0, deadline - time.monotonic())):
            chunk = os.read(pipe.fileno(), _CHUNK_BYTES)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            size += len(chunk)
            if size > OUTPUT_MAX_BYTES:
                raise Invalid("printed more than 64 KiB; it should print nothing but the secret")
    raise Invalid(_LATE)


def _text(output: bytes, program: str) -> str:
    try:
        text = output.decode()
    except UnicodeDecodeError:
        raise Invalid(f"the command {program} printed what is not UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise Invalid(f"the command {program} printed nothing; it should print the secret")
    return text


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
