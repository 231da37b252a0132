"""A bare clone of one branch: fetching, listing, writing and pushing commits.

The clone is a cache: what is damaged in it is dropped, and it is cloned anew.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from gatesync.stores.git_command import GitCommand, GitError
from gatesync.stores.git_objects import DamagedError
from gatesync.stores.git_source import GitSource
from gatesync.stores.git_trouble import is_cut, is_damage, is_outrun
from gatesync.stores.git_url import Remote

__all__ = ["Draft", "FileChange", "Listed", "Repository"]

_FETCHED: Final = "refs/gatesync/fetched"
_WRITTEN: Final = "refs/gatesync/written"
LOST: Final = "refs/gatesync/lost"

FileChange = tuple[str, str, str]
"""A path below the source's, and the mode and id of what is there now; empty where nothing is."""


class Listed(msgspec.Struct, frozen=True):
    """A commit of the first-parent history, and what it changed below the source's path."""

    id: str
    changes: list[FileChange]


class Draft(msgspec.Struct, frozen=True):
    """A commit that is to be written on top of the one before.

    `dropped` are folders that go away first, `files` what is there then; `authored_at` and
    `committed_at` are seconds since 1970.
    """

    message: str
    author: str
    authored_at: int
    committed_at: int
    dropped: Sequence[str] = ()
    files: Sequence[tuple[str, bytes]] = ()


class Repository:
    """The clone of a source's branch, and the way to its server.

    Each method raises `GitError`, and `DamagedError` where the clone itself is what fails.
    """

    def __init__(self, source: GitSource, remote: Remote, command: GitCommand) -> None:
        self._source = source
        self._remote = remote
        self._command = command
        self._branch = f"refs/heads/{source.branch}"
        self._known = f"refs/remotes/origin/{source.branch}"  # which a push moves by itself

    async def open(self) -> None:
        """Make the clone where there is none; take away what a crash has left of locks."""
        clone = self._command.clone
        if not (clone / "HEAD").is_file():
            self.drop()
            await self._command.run("init", "--quiet", "--bare")
        for lock in [*clone.glob("*.lock"), *clone.glob("refs/**/*.lock")]:
            lock.unlink(missing_ok=True)
        for left in clone.glob("objects/pack/tmp_*"):
            left.unlink(missing_ok=True)
        (clone / "config").write_text(
            "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
            "\tfsync = none\n"  # it can be made again
            f'[remote "origin"]\n\turl = "{self._remote.url}"\n'
            "\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
        )

    def drop(self) -> None:
        """Take the whole clone away."""
        shutil.rmtree(self._command.clone, ignore_errors=True)

    async def ask(self) -> str:
        """Ask the server where the branch stands; empty where there is none."""
        answer = await self._with_server("ls-remote", "--", "origin", self._branch)
        for line in answer.decode().splitlines():
            commit, _, name = line.partition("\t")
            if name == self._branch:
                return commit
        return ""

    async def fetch(self) -> str:
        """Fetch the branch; answers with where it stands now. Nothing else moves."""
        await self._with_server(
            *("fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--refmap="),
            *("--no-recurse-submodules", "--no-auto-maintenance", "--force"),
            *("--", "origin", f"+{self._branch}:{_FETCHED}"),
        )
        return await self._resolved(_FETCHED)

    async def known(self) -> str:
        """Where the branch stood when it was last taken over; empty if it never was."""
        return await self._resolved(self._known)

    async def take_over(self, commit: str) -> None:
        """Remember that the log has been taken over up to here."""
        await self._local("update-ref", self._known, commit)

    async def lost(self) -> str:
        """The first commit that a rewritten history has lost; empty where there is none."""
        return await self._resolved(LOST)

    async def remember_lost(self, commit: str) -> None:
        """Remember that, or with an empty one that it does not matter any more."""
        await self._local("update-ref", *(("-d", LOST) if not commit else (LOST, commit)))

    async def history(self, commit: str) -> list[str]:
        """The first-parent history up to this commit, from the root on."""
        said = await self._local("rev-list", "--first-parent", "--reverse", commit, "--")
        return said.decode().split()

    async def listing(self, since: str, until: str) -> list[Listed]:
        """The commits after `since` (empty: from the root on) up to `until`, oldest first."""
        said = await self._local(
            *("log", "--first-parent", "--sparse", "--diff-merges=first-parent", "--raw", "-z"),
            *("-r", "--root", "--no-abbrev", "--no-renames", "--reverse", "--format=%H"),
            *("--no-show-signature", "--no-ext-diff", "--end-of-options"),
            *([f"{since}..{until}"] if since else [until]),
            *(("--", f":(literal){self._source.path}") if self._source.path else ("--",)),
        )
        return list(_parsed(said, f"{self._source.path}/" if self._source.path else ""))

    async def accepted(self, since: str, until: str) -> list[tuple[str, bool, str]]:
        """Whether each commit's signature is by an allowed signer, and by which key."""
        said = await self._local(
            *("log", "--first-parent", "--sparse", "--reverse", "--format=%H %G? %GK"),
            *("--no-show-signature", "--end-of-options"),
            *(f"{since}..{until}" if since else until, "--"),
        )
        words = [line.split(" ") for line in said.decode(errors="replace").splitlines() if line]
        return [(commit, good == "G", key) for commit, good, key, *_ in words]

    async def write(self, drafts: Sequence[Draft], parent: str) -> list[str]:
        """Write the commits into the clone, one on top of the other; answers with their ids."""
        root = f"{self._source.path}/" if self._source.path else ""
        author = (self._source.author_name, self._source.author_email)
        feed = b"".join(_import_stream(drafts, parent, root, author))
        said = await self._local(
            "fast-import", "--quiet", "--force", "--date-format=raw", "--done", feed=feed
        )
        written = said.decode().split()
        return written if self._source.signing_key is None else await self._signed(written, drafts)

    async def push(self, commit: str) -> bool:
        """Push; False where somebody else has pushed before."""
        try:
            await self._with_server(
                *("push", "--progress", "--no-verify", "--no-signed", "--recurse-submodules=no"),
                *("--", "origin", f"{commit}:{self._branch}"),
            )
        except GitError as error:
            if is_outrun(error.told) and not error.silent:
                return False
            raise
        return True

    async def tidy(self) -> None:
        """Pack what has come together in the clone, where that is worth it."""
        with suppress(GitError):
            await self._command.run(
                *("-c", "gc.auto=2000", "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet"),
                silence=600.0,
            )

    async def _signed(self, written: list[str], drafts: Sequence[Draft]) -> list[str]:
        """The same commits again, signed. fast-import cannot do that."""
        signed: list[str] = []
        for commit, draft in zip(written, drafts, strict=True):
            raw = (await self._local("cat-file", "commit", commit)).partition(b"\n\n")[0]
            headers = dict(line.split(b" ", 1)[::-1] for line in raw.split(b"\n"))
            by_name = {name: rest for rest, name in headers.items()}
            parent = signed[-1:] or [by_name[b"parent"].decode()] if b"parent" in by_name else []
            said = await self._local(
                *("commit-tree", f"-S{self._source.signing_key}"),
                *(word for each in parent for word in ("-p", each)),
                *("-F", "-", by_name[b"tree"].decode()),
                feed=draft.message.encode(),
                variables={
                    "GIT_AUTHOR_NAME": draft.author or self._source.author_name,
                    "GIT_AUTHOR_EMAIL": self._source.author_email,
                    "GIT_AUTHOR_DATE": f"@{draft.authored_at} +0000",
                    "GIT_COMMITTER_DATE": f"@{draft.committed_at} +0000",
                },
            )
            signed.append(said.decode().strip())
        return signed

    async def _resolved(self, ref: str) -> str:
        try:
            said = await self._command.run("rev-parse", "--verify", "--quiet", ref)
        except GitError as error:
            if is_damage(error.told):
                raise DamagedError(error.told) from error
            return ""
        return said.decode().strip()

    async def _with_server(self, *arguments: str) -> bytes:
        try:
            return await self._command.run(*arguments)
        except GitError as error:
            # What the server says of itself, git marks; the rest is about the clone.
            ours = "".join(re.split(r"(?m)^remote:.*\n?", error.told))
            if is_cut(ours):  # half of a pack is the connection's fault, whatever git calls it
                raise
            if str(self._command.clone) in ours or is_damage(ours):
                raise DamagedError(error.told) from error
            raise

    async def _local(
        self, *arguments: str, feed: bytes = b"", variables: dict[str, str] | None = None
    ) -> bytes:
        """A question that no server has a part in."""
        try:
            return await self._command.run(
                *arguments, feed=feed, variables=variables, silence=max(600.0, self._source.timeout)
            )
        except GitError as error:
            if is_damage(error.told):
                raise DamagedError(error.told) from error
            raise


def _parsed(said: bytes, root: str) -> Iterator[Listed]:
    """Take the output of `git log --raw -z --format=%H` apart."""
    tokens = iter(said.split(b"\0"))
    commit, changes = "", list[FileChange]()
    for token in tokens:
        token = token.lstrip(b"\n")
        if not token:
            continue
        if not token.startswith(b":"):
            if commit:
                yield Listed(commit, changes)
            commit, changes = token.decode(), []
            continue
        _, mode, _, blob, status = token.decode().split(" ")
        path = next(tokens).decode(errors="backslashreplace")  # what is no UTF-8 is no name
        if path.startswith(root):
            gone = status.startswith("D")
            place = path[len(root) :]
            changes.append((place, "", "") if gone else (place, mode, blob))
    if commit:
        yield Listed(commit, changes)


def _import_stream(
    drafts: Sequence[Draft], parent: str, root: str, author: tuple[str, str]
) -> Iterator[bytes]:
    """What git-fast-import(1) is fed."""
    name, email = map(_plain, author)
    for mark, draft in enumerate(drafts, start=1):
        yield b"commit %s\nmark :%d\n" % (_WRITTEN.encode(), mark)
        who = _plain(draft.author) or name
        yield f"author {who} <{email}> {draft.authored_at} +0000\n".encode()
        yield f"committer {name} <{email}> {draft.committed_at} +0000\n".encode()
        yield _data(draft.message.encode())
        if mark > 1:
            yield b"from :%d\n" % (mark - 1)
        elif parent:
            yield f"from {parent}\n".encode()
        else:
            yield b""
        for folder in draft.dropped:
            yield b"D " + _path(root + folder) + b"\n"
        for path, content in draft.files:
            yield b"M 100644 inline " + _path(root + path) + b"\n" + _data(content)
        yield b"\n"
    for mark in range(1, len(drafts) + 1):
        yield b"get-mark :%d\n" % mark
    yield b"done\n"


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


def _path(path: str) -> bytes:
    escaped = path.encode(errors="surrogateescape").replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"' + escaped.replace(b"\n", b"\\n") + b'"'


def _plain(name: str) -> str:
    """A name that may stand in a commit's header."""
    kept = "".join(c for c in name if c.isprintable() and c not in "<>")
    return kept.strip(" .,:;\"'\\") or ""
