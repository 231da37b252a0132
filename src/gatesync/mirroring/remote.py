"""The kept connection to a host: one ssh, with a small loop of `sh` at its other end.

The loop answers questions about workers' manifests within milliseconds, as no login is needed for
them; rsync's own sessions share the connection (`ControlPath`). The command that ssh is given is
`exec sh`, whatever is asked; the loop comes on its standard input, and then what is asked, as
lines that it reads as values: no path and no content is ever part of a command. It needs `sh`,
`cat`, `mkdir`, `ln`, `mv` and `rm` on the worker, beside rsync.

    asked:     a word that nobody can guess, what to do, a value, the folder; a line each
    answered:  what came of it, and on a line of its own the word and an exit code
"""

import asyncio
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from gatesync.mirroring.child_process import end_group, spawn
from gatesync.mirroring.ssh import SshConfig
from gatesync.mirroring.workers import SshHost

__all__ = ["NO_FOLDER", "Answer", "RemoteError", "RemoteHost"]

NO_FOLDER: Final = 20
"""The exit code that says: there is no such folder on the worker."""

# In braces: sh reads all of it before it does the first of it, and we say nothing more until then.
_LOOP: Final = """\
{
unset CDPATH ENV
umask 022
cat BOOT_ID 2>/dev/null
printf "\\n%s 0\\n" WORD
while IFS= read -r word && IFS= read -r task && IFS= read -r value && IFS= read -r folder
do
  (
    if [ "$task" = begin ] && [ ! -d "$folder" ]; then mkdir -- "$folder" || exit 1; fi
    [ -d "$folder" ] || exit 20
    cd -- "$folder" || exit 1
    save() {
      printf "%s\\n" "$value" > .gatesync/head.new && mv -f .gatesync/head.new .gatesync/head
    }
    case "$task" in
      head | manifest | next) if [ -f ".gatesync/$task" ]; then cat ".gatesync/$task"; fi ;;
      begin)
        if [ ! -d .gatesync ]; then mkdir .gatesync || exit 1; fi
        save || exit 1
        rm -f .gatesync/.next.??????
        if [ -f .gatesync/manifest ] && [ ! -f .gatesync/next ]; then
          ln .gatesync/manifest .gatesync/next 2>/dev/null || exit 0
        fi ;;
      note) save && cat .gatesync/head ;;
      finish) mv -f .gatesync/next .gatesync/manifest && save && cat .gatesync/head ;;
    esac
  ) 2>&1 </dev/null
  printf "\\n%s %d\\n" "$word" "$?"
done
exit
}
"""
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"  # where the worker has Linux
SESSIONS: Final = 8  # with ours 9; sshd allows 10 in a connection (`MaxSessions`)
_UUID: Final = re.compile(rb"([0-9a-f-]{36})\n?\Z")
_CHUNK: Final = 64 * 1024
_ANSWER_MAX_BYTES: Final = 256 * 1024 * 1024  # a manifest of two million files
_ERRORS_MAX_BYTES: Final = 4096
_LAST_LINES: Final = 3
_CLOSE_SECONDS: Final = 2.0


class RemoteError(Exception):
    """A host gave no answer: why, in words, with ssh's own where it has any."""


class Answer(NamedTuple):
    """What a task said, and its exit code: 0 where it was done."""

    text: bytes
    code: int


class RemoteHost:
    """The connection to one host, made when it is first needed and again when it was lost.

    Args:
        host: which.
        config: how ssh gets there.
        answer_seconds: a connection over which nothing comes for so long is given up.
        words: what nobody can guess.

    Attributes:
        boot: names this run of the host, from its start to its end; empty where nobody knows.
    """

    def __init__(
        self,
        host: SshHost,
        config: SshConfig,
        *,
        answer_seconds: float,
        words: Callable[[], str] = secrets.token_hex,
    ) -> None:
        self.host = host
        self.sessions = asyncio.Semaphore(SESSIONS)
        """To be held by who runs rsync over the connection."""
        self.boot = ""
        self._config = config
        self._seconds = answer_seconds
        self._words = words
        self._errors: Path = config.socket(host).with_suffix(".err")
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._failed: RemoteError | None = None
        self._attempts = 0

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as anybody knows."""
        return self._process is not None and self._process.returncode is None

    async def ask(self, task: str, folder: str, value: str = "") -> Answer:
        """Have one task done; one at a time. A cancelled or unanswered one ends the connection.

        Raises:
            RemoteError: no connection, or no answer.
        """
        attempts = self._attempts
        async with self._turn:
            if not self.is_connected:
                # Whoever waited while somebody else found the host dead does not try it, too.
                if self._attempts > attempts and self._failed is not None:
                    raise RemoteError(str(self._failed))
                await self._connect()
            word = self._words()
            return await self._exchange(f"{word}\n{task}\n{value}\n{folder}\n", word)

    async def close(self) -> None:
        """End the connection, in order where the host still listens."""
        async with self._turn:
            process, self._process = self._process, None
            if process is None:
                return
            try:
                assert process.stdin is not None
                process.stdin.close()  # the loop ends
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await process.wait()
            except TimeoutError:
                pass
            finally:
                await end_group(process)

    async def _connect(self) -> None:
        self._attempts += 1
        self._failed = None
        await self._drop()
        self._config.socket(self.host).unlink(missing_ok=True)  # of one that was killed
        try:
            with self._errors.open("wb") as errors:
                command = self._config.opening(self.host, "exec", "sh")
                self._process = await spawn(command, stderr=errors, dies_with_us=True)
            word = self._words()
            loop = _LOOP.replace("WORD", word).replace("BOOT_ID", BOOT_ID)
            answer = await self._exchange(loop, word)
            found = _UUID.search(answer.text)
            self.boot = found[1].decode() if found else ""
        except OSError as error:
            self._failed = RemoteError(f"ssh cannot be started: {error}")
            raise self._failed from None
        except RemoteError as error:
            self._failed = error
            raise

    async def _exchange(self, question: str, word: str) -> Answer:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        end = re.compile(rb"\n%s ([0-9]+)\n\Z" % word.encode())
        heard = bytearray()
        if process.stdin.is_closing():  # ssh has ended already
            raise RemoteError(await self._last_words())
        try:
            process.stdin.write(question.encode())
            async with asyncio.timeout(self._seconds):
                await process.stdin.drain()
            while not (ended := end.search(heard, max(0, len(heard) - len(word) - 8))):
                async with asyncio.timeout(self._seconds):
                    more = await process.stdout.read(_CHUNK)
                if not more or len(heard) > _ANSWER_MAX_BYTES:
                    break
                heard += more
        except TimeoutError:
            await self._drop()
            reason = f"{self.host} did not answer within {self._seconds:g} s"
            raise RemoteError(reason) from None
        except ConnectionError:
            raise RemoteError(await self._last_words()) from None
        except BaseException:  # an answer may still be on its way, and must not become another's
            await self._drop()
            raise
        if ended is None:
            raise RemoteError(await self._last_words())
        return Answer(bytes(heard[: ended.start()]), int(ended[1]))

    async def _last_words(self) -> str:
        """Why ssh ended, in its own words."""
        await self._drop()
        said = self._errors.read_bytes()[-_ERRORS_MAX_BYTES:].decode(errors="replace")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        told = "; ".join(lines[-_LAST_LINES:]) or "ssh ended, and did not say why"
        return f"no connection to {self.host}: {told}"

    async def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await end_group(process)
