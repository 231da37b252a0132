"""Runs the git command so that nothing but the given source has a say.

It has a configuration and a home of its own, runs no hooks, follows no submodules, asks nobody,
speaks only the protocols that are allowed, and its credentials are in no argument and no file.
A command that is silent for too long is ended with everything that it started.
"""

import asyncio
import os
import shlex
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from gatesync.stores.git_source import GitSource
from gatesync.stores.git_trouble import without_trace
from gatesync.stores.git_url import Remote
from gatesync.stores.store import StoreError

__all__ = ["GitCommand", "GitError", "not_started"]

_CHUNK: Final = 64 * 1024
_TOLD_BYTES: Final = 16 * 1024  # of what git says, the end is kept
# What git and ssh may see of our environment: where programs and proxies are, whom TLS trusts.
_PASSED: Final = ("PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class GitError(Exception):
    """The git command failed.

    Attributes:
        told: what it said, as it said it.
        silent: it was ended because nothing came for too long.
    """

    def __init__(self, told: str, *, silent: bool = False) -> None:
        self.told = told
        self.silent = silent
        super().__init__(told)


class GitCommand:
    """Git, for one remote and one bare clone.

    Args:
        source: what to open, and as whom.
        remote: the same URL, taken apart.
    """

    def __init__(self, source: GitSource, remote: Remote) -> None:
        self.clone = source.cache / "clone.git"
        self._source = source
        self._remote = remote
        self._home = source.cache / "home"
        self.environment = _environment(source, remote, self._home)

    def prepare(self) -> None:
        """Write the configuration that git reads. Raises `OSError`."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = _configuration(self._source, self._remote)
        (self._home / "gitconfig").write_text(text)

    def arguments(self, *arguments: str) -> list[str]:
        """The whole command line."""
        return ["git", f"--git-dir={self.clone}", *arguments]

    async def run(
        self,
        *arguments: str,
        feed: bytes = b"",
        silence: float | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> bytes:
        """Run to the end and answer with its standard output.

        Args:
            arguments: what follows `git --git-dir=CLONE`; no text from elsewhere is an option.
            feed: its standard input.
            silence: seconds without a word after which it is ended; the source's timeout.
            variables: further ones of its environment.

        Raises:
            GitError: it failed, or was silent for too long.
            StoreError: git cannot be started.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *self.arguments(*arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**self.environment, **(variables or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise not_started(error) from error
        try:
            out, told = await _talk(process, feed, silence or self._source.timeout)
        except TimeoutError:
            seconds = silence or self._source.timeout
            raise GitError(f"nothing came for {seconds:g} s", silent=True) from None
        finally:
            with suppress(ProcessLookupError):  # also what outlives it: ssh, pack-objects
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if process.returncode:
            text = without_trace(told.decode(errors="replace"))
            raise GitError(text or f"git {arguments[0]} ended with status {process.returncode}")
        return out


def not_started(error: OSError) -> StoreError:
    """Why git cannot be started, in words."""
    if isinstance(error, FileNotFoundError):
        return StoreError("there is no git command; install git 2.36 or newer")
    return StoreError(f"git cannot be started: {error.strerror}; the host is short of something")


async def _talk(
    process: asyncio.subprocess.Process, feed: bytes, silence: float
) -> tuple[bytes, bytes]:
    """Feed and read at once; raises `TimeoutError` when nothing moves for `silence` seconds."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    clock = asyncio.get_running_loop().time
    async with asyncio.timeout(silence) as limit:

        def heard() -> None:
            limit.reschedule(clock() + silence)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_feed(process.stdin, feed, heard))
            out = tasks.create_task(_read(process.stdout, heard))
            told = tasks.create_task(_read(process.stderr, heard, _TOLD_BYTES))
        await process.wait()
    return out.result(), told.result()


async def _feed(stream: asyncio.StreamWriter, feed: bytes, heard: Callable[[], None]) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # its exit status says why
        for at in range(0, len(feed), _CHUNK):
            stream.write(feed[at : at + _CHUNK])
            await stream.drain()
            heard()
    stream.close()


async def _read(stream: asyncio.StreamReader, heard: Callable[[], None], most: int = 0) -> bytes:
    parts: list[bytes] = []
    while part := await stream.read(_CHUNK):
        heard()
        parts.append(part)
        if most:
            parts = [b"".join(parts)[-most:]]
    return b"".join(parts)


def _environment(source: GitSource, remote: Remote, home: Path) -> dict[str, str]:
    found = {name: os.environ[name] for name in _PASSED if name in os.environ}
    for name in _PROXIES:
        found |= {n: os.environ[n] for n in (name, name.upper()) if n in os.environ}
    if source.ssh_key is None and "SSH_AUTH_SOCK" in os.environ:
        found["SSH_AUTH_SOCK"] = os.environ["SSH_AUTH_SOCK"]
    return found | {
        "HOME": str(home),
        "LC_ALL": "C",  # what git says is read (`git_trouble`)
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": remote.protocols,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_SSH_COMMAND": _ssh(source),
        "GIT_SSH_VARIANT": "ssh",
        # When to come back (Retry-After) git tells nowhere else; logins are not shown in it.
        "GIT_TRACE_CURL": "2" if remote.site else "0",
        "GIT_TRACE_CURL_NO_DATA": "1",
        "GIT_TRACE_REDACT": "1",
        "GATESYNC_GIT_USERNAME": remote.username,
        "GATESYNC_GIT_PASSWORD": remote.password.reveal() if remote.password else "",
    }


def _ssh(source: GitSource) -> str:
    """The ssh command: it asks nobody and accepts no host that it does not know."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": str(max(1, round(source.timeout))),
        "ServerAliveInterval": "15",
        "ForwardAgent": "no",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
    }
    if source.known_hosts is not None:
        options["UserKnownHostsFile"] = f'"{source.known_hosts}"'
        options["GlobalKnownHostsFile"] = "/dev/null"
    words = ["ssh", *(f"-o{name}={value}" for name, value in options.items())]
    if source.ssh_key is not None:
        words += ["-oIdentitiesOnly=yes", "-i", str(source.ssh_key)]
    return shlex.join(words)


def _configuration(source: GitSource, remote: Remote) -> str:
    """The text of the file that takes the place of a user's `.gitconfig`.

    A local server of a `file://` URL reads it too: what it acknowledges is on its disk then.
    """
    sections: dict[str, dict[str, str]] = {
        "core": {
            "hooksPath": "/dev/null",
            "fsync": "all",
            "symlinks": "false",
            "compression": "1",  # artifacts are small; a large one is not to hold up the others
            "bigFileThreshold": "1m",
        },
        "gc": {"auto": "0"},
        "maintenance": {"auto": "false"},
        "advice": {"detachedHead": "false"},
        "fetch": {"fsckObjects": "true", "recurseSubmodules": "false"},
        "receive": {"fsckObjects": "true"},
        "protocol": {"version": "2"},
        "push": {"recurseSubmodules": "no"},
        "submodule": {"recurse": "false"},
        "http": {"lowSpeedLimit": "1", "lowSpeedTime": str(max(1, round(source.timeout)))},
        "user": {"name": source.author_name, "email": source.author_email},
        "gpg": {"format": "ssh"},
        "commit": {"gpgSign": "false"},
    }
    if source.ca is not None:
        sections["http"]["sslCAInfo"] = str(source.ca)
    if source.signing_key is not None:
        sections["user"]["signingKey"] = str(source.signing_key)
    if source.allowed_signers is not None:
        sections['gpg "ssh"'] = {"allowedSignersFile": str(source.allowed_signers)}
    if remote.folder:  # whoever owns it: the operator has named it
        sections["safe"] = {"directory": remote.folder}
    if remote.site and (remote.username or remote.password):
        # Only this site is told who we are, wherever it redirects to.
        said = (
            '!f() { test "$1" = get || exit 0; '
            'printf "username=%s\\npassword=%s\\n" '
            '"$GATESYNC_GIT_USERNAME" "$GATESYNC_GIT_PASSWORD"; }; f'
        )
        sections[f'credential "{remote.site}"'] = {"helper": said}
    lines: list[str] = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"\t{name} = {_quoted(value)}" for name, value in values.items()]
    return "".join(f"{line}\n" for line in lines)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t") + '"'
