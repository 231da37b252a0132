"""export: what labels or a gateway hold, as files.

What is asked for is listed first, then fetched by digest in batches and written as it comes. A
list that does not prove itself whole, or a content that has not its digest, is never exported.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

from gatesync.artifacts.canonical import decode
from gatesync.artifacts.changes import Head
from gatesync.artifacts.digests import EMPTY_LABEL, digest_of
from gatesync.artifacts.errors import Problem, ProblemsError
from gatesync.artifacts.folder import files_of
from gatesync.artifacts.model import SUPER_TENANT, Artifact
from gatesync.artifacts.paths import encode_name, folder_of
from gatesync.artifacts.tree import files_of_tree
from gatesync.artifacts.wso2 import wso2_json
from gatesync.cli.new_folder import NewFolder, check_free, new_folder
from gatesync.cli.output import Output
from gatesync.cli.running import EXIT_NO, EXIT_UNREACHABLE, EXIT_WRONG
from gatesync.cli.session import CommandError, Target, call, open_session
from gatesync.config import ConfigError, Secret
from gatesync.config.secret import read_secret_file
from gatesync.gateway.admin import GatewayStatus, HeldAnswer
from gatesync.publisher.answers import LabelsAnswer
from gatesync.stores.batching import in_batches
from gatesync.stores.http import HttpRetriever
from gatesync.stores.store import StoreError, TooOld, read_manifest
from gatesync.stores.wire import BATCH_DIGESTS
from gatesync.web.client import AnsweredError, HttpClient, UnreachableError

__all__ = ["Form", "export_gateway", "export_labels", "make_form"]

BATCH_BYTES: Final = 16 * 1024 * 1024  # of canonical bytes in memory at a time
ATTEMPTS: Final = 3  # to read what changes while it is read
NAMED: Final = 10  # of what is left out, to people

Form = Callable[[str, Artifact], dict[str, bytes]]
"""The files of an artifact in a label, by their paths below the exported folder.

There are none where the form holds no artifact of its kind.
"""


class Exported(msgspec.Struct):
    """What `export --json` prints.

    `heads` are where the labels stood; at a gateway they count what it serves of them.
    """

    to: str
    heads: list[Head]
    artifacts: int = 0
    files: int = 0
    bytes: int = 0
    left_out: list[str] = []


def export_labels(
    target: Target, labels: Sequence[str], to: Path, form: Form, output: Output
) -> int:
    """Export what labels hold now; answers with the exit code."""
    if not labels:
        raise CommandError(EXIT_WRONG, "name what to export: labels with --label, or a --gateway")
    check_free(to)

    async def work(client: HttpClient) -> Exported:
        try:
            return await _export(_Store(client, list(dict.fromkeys(labels))), to, form, output)
        except StoreError as error:
            if isinstance(error.__cause__, UnreachableError | AnsweredError):
                raise error.__cause__ from None
            raise CommandError(EXIT_UNREACHABLE, str(error)) from None

    return _tell(call(target, work), output)


def export_gateway(url: str, token_file: Path | None, to: Path, form: Form, output: Output) -> int:
    """Export what a running gateway serves; answers with the exit code."""
    check_free(to)
    target = Target((url,), _gateway_token(token_file))

    async def conversation() -> Exported:
        async with open_session(target) as client:
            return await _export(_Gateway(client), to, form, output)

    try:
        return _tell(asyncio.run(conversation()), output)
    except UnreachableError as error:
        reason = "give the address that the gateway itself listens on ([gatesync.gateway] listen)"
        raise CommandError(EXIT_UNREACHABLE, str(error), reason) from None
    except AnsweredError as error:
        raise _refused_by_gateway(url, error) from None
    except ValueError as error:
        raise CommandError(EXIT_WRONG, str(error)) from None


def make_form(name: str, tenant: str | None) -> Form:
    """The form that `--format` names; raises `CommandError` where it is none.

    Args:
        name: folder, tree or wso2.
        tenant: whose `deployment/server` is, in a tree.
    """
    if tenant is not None and name != "tree":
        raise CommandError(EXIT_WRONG, "--tenant belongs to --format tree; drop it")
    if name == "folder":
        return _folder_form
    if name == "tree":
        return _tree_form(tenant or SUPER_TENANT)
    if name == "wso2":
        return _wso2_form
    raise CommandError(EXIT_WRONG, f"--format {name!r} is unknown; write folder, tree or wso2")


# How it is written ----------------------------------------------------------------------------


def _folder_form(label: str, artifact: Artifact) -> dict[str, bytes]:
    above = folder_of(label, artifact.identity)
    return {f"{above}/{path}": content for path, content in files_of(artifact).items()}


def _tree_form(tenant: str) -> Form:
    return lambda _label, artifact: files_of_tree([artifact], tenant=tenant)


def _wso2_form(label: str, artifact: Artifact) -> dict[str, bytes]:
    if artifact.identity.kind != "api":
        return {}
    path = f"{encode_name(label)}/{encode_name(artifact.api_id)}.json"
    return {path: wso2_json(artifact)}


# Where it comes from --------------------------------------------------------------------------


class _Item(NamedTuple):
    """An artifact that is to be exported."""

    label: str
    api_id: str
    digest: str
    size: int
    called: str


class _Listing(NamedTuple):
    heads: list[Head]
    items: list[_Item]


class _ChangedError(Exception):
    """What was listed is not what is there any more; says what is missing."""


class _Source(Protocol):
    async def listing(self) -> _Listing:
        """All that there is."""
        ...

    async def contents(self, items: Sequence[_Item]) -> Mapping[str, bytes]:
        """Contents by digest; what does not match its digest is left out (promise 8)."""
        ...

    async def check_unchanged(self, listing: _Listing) -> None:
        """Raise `_ChangedError` where the contents that were read are not of one moment."""
        ...


class _Store:
    """Labels of a publisher's store. Contents never change, so a list stays what it was."""

    def __init__(self, client: HttpClient, labels: Sequence[str]) -> None:
        self._client = client
        self._retriever = HttpRetriever(client)
        self._labels = labels

    async def listing(self) -> _Listing:
        listing = _Listing([], [])
        for label in self._labels:
            head, entries = await read_manifest(self._retriever, label)  # proves it whole
            if head.revision == 0:
                raise CommandError(EXIT_WRONG, *await self._never_used(label))
            listing.heads.append(head)
            listing.items.extend(
                _Item(label, each.api_id, each.digest, each.size, str(each.identity))
                for each in entries.values()
            )
        return listing

    async def contents(self, items: Sequence[_Item]) -> Mapping[str, bytes]:
        return await self._retriever.contents({item.digest for item in items})

    async def check_unchanged(self, listing: _Listing) -> None:
        return

    async def _never_used(self, label: str) -> list[str]:
        reasons = [f"nothing was ever published to label {label!r}"]
        with suppress(AnsweredError):  # a node's token may not ask
            answer = await self._client.get("/v1/labels", LabelsAnswer)
            known = ", ".join(repr(head.label) for head in answer.labels) or "none"
            reasons.append(f"known are: {known}")
        return reasons


class _Gateway:
    """What a gateway serves, which may change while it is read."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def listing(self) -> _Listing:
        held = await self._client.get("/v1/held", HeldAnswer)
        status = await self._client.get("/v1/status", GatewayStatus)
        digests = dict.fromkeys((each.label for each in held.artifacts), EMPTY_LABEL)
        for each in held.artifacts:
            digests[each.label] = digests[each.label].add(each.api_id, each.digest)
        cursors = {each.label: each for each in status.labels}
        heads = []
        for label, digest in digests.items():
            at = cursors.get(label)
            epoch, revision = (at.epoch, at.revision) if at else ("", 0)
            heads.append(Head(label, epoch, revision, digest))
        items = [
            _Item(each.label, each.api_id, each.digest, each.size, f"{each.kind} {each.name}")
            for each in held.artifacts
        ]
        return _Listing(heads, items)

    async def contents(self, items: Sequence[_Item]) -> Mapping[str, bytes]:
        async def fetch(item: _Item) -> bytes:
            named = [("api_id", item.api_id)]
            return (await self._client.request("GET", "/v1/held/content", params=named)).body

        try:
            async with asyncio.TaskGroup() as group:  # the client's pool bounds how many at once
                tasks = [group.create_task(fetch(item)) for item in items]
        except ExceptionGroup as errors:
            first = errors.exceptions[0]
            if isinstance(first, AnsweredError) and first.status == 404:
                raise _ChangedError("; ".join(first.reasons)) from None
            raise first from None
        bodies = (task.result() for task in tasks)
        return {digest_of(body): body for body in bodies}

    async def check_unchanged(self, listing: _Listing) -> None:
        if (await self.listing()).items != listing.items:
            raise _ChangedError("it serves something else by now")


# The export itself ----------------------------------------------------------------------------


async def _export(source: _Source, to: Path, form: Form, output: Output) -> Exported:
    """Export, once more from the beginning where things changed meanwhile."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with new_folder(to) as folder:
                return await _export_once(source, folder, Exported(str(to), []), form, output)
        except (_ChangedError, TooOld) as error:
            if attempt == ATTEMPTS:
                reason = f"what is exported changed while it was read, {ATTEMPTS} times in a row"
                raise CommandError(EXIT_NO, f"{reason}; try again: {error}") from None
    raise AssertionError("the last attempt returns or raises")


async def _export_once(
    source: _Source, folder: NewFolder, exported: Exported, form: Form, output: Output
) -> Exported:
    listing = await source.listing()
    writing = _Writing(folder, form)
    with output.progress("exporting", len(listing.items)) as advance:
        for batch in in_batches(listing.items, BATCH_BYTES, BATCH_DIGESTS):
            contents = await source.contents(batch)
            for item in batch:
                if item.digest not in contents:
                    raise _ChangedError(f"no content of {item.called} has the digest it is to have")
                writing.add(item, contents[item.digest])
            advance(len(batch))
    await source.check_unchanged(listing)
    if writing.problems:
        raise CommandError(EXIT_WRONG, *(str(problem) for problem in writing.problems))
    exported.heads = listing.heads
    exported.left_out = writing.left_out
    exported.artifacts = writing.artifacts
    exported.files, exported.bytes = folder.files, folder.size
    return exported


class _Writing:
    """Artifacts on their way into a folder, and which of them each file belongs to."""

    def __init__(self, folder: NewFolder, form: Form) -> None:
        self.artifacts = 0
        self.left_out: list[str] = []
        self.problems: list[Problem] = []
        self._folder = folder
        self._form = form
        self._written: dict[str, _Item] = {}

    def add(self, item: _Item, content: bytes) -> None:
        """Write the artifact's files; what is wrong with them is kept in `problems`."""
        try:
            files = self._form(item.label, decode(content))
        except ProblemsError as error:
            self.problems += error.problems
            return
        except ValueError as error:
            self.problems.append(Problem(str(error), where=item.called))
            return
        if not files:
            self.left_out.append(f"{item.called} ({item.label}): this format holds APIs only")
            return
        self.artifacts += 1
        for path, data in files.items():
            other = self._written.setdefault(path, item)
            if other is not item:
                if (other.api_id, other.digest) != (item.api_id, item.digest):
                    self.problems.append(_collision(path, other, item))
                continue  # the same artifact in two labels
            try:
                self._folder.write(path, data)
            except Problem as problem:
                self.problems.append(problem)


def _collision(path: str, one: _Item, other: _Item) -> Problem:
    reason = (
        f"is a file of {one.called} in label {one.label!r} "
        f"and of {other.called} in label {other.label!r}; export the labels one by one"
    )
    return Problem(reason, where=path)


def _gateway_token(file: Path | None) -> Secret | None:
    if file is not None:
        try:
            return read_secret_file(file)
        except ConfigError as error:
            said = (f"--token-file: {problem.message}" for problem in error.problems)
            raise CommandError(EXIT_WRONG, *said) from None
    token = os.environ.get("GATESYNC_TOKEN")
    return Secret(token) if token else None


def _refused_by_gateway(url: str, error: AnsweredError) -> CommandError:
    if error.status in {401, 403}:
        advice = (
            "give the gateway's own token, which is in admin.token in its data folder: "
            "--token-file FILE, or GATESYNC_TOKEN"
        )
        return CommandError(EXIT_WRONG, *error.reasons, advice)
    if error.status == 404:
        advice = "is no gateway; for what a publisher holds, use --label with --publisher"
        return CommandError(EXIT_WRONG, f"{url} {advice}")
    code = EXIT_UNREACHABLE if error.status >= 500 else EXIT_WRONG
    return CommandError(code, *error.reasons)


def _tell(exported: Exported, output: Output) -> int:
    output.document(exported)
    for reason in exported.left_out[:NAMED]:
        output.note(f"left out: {reason}")
    if (more := len(exported.left_out) - NAMED) > 0:
        output.note(f"left out: {more} more of other kinds; --json names them")
    for head in exported.heads:
        count = _count(head.digest.count, "artifact")
        output.line(f"{head.label}: {count} at revision {head.revision}")
    size = f"{_count(exported.files, 'file')}, {_count(exported.bytes, 'byte')}"
    output.line(f"exported {_count(exported.artifacts, 'artifact')} to {exported.to} ({size})")
    return 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
