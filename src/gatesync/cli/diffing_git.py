"""diff --against-git: what the cluster serves against what a branch says.

The branch is read as a gateway reads it, in a clone that is gone afterwards. The cluster may store
elsewhere: the same files are the same artifacts, with the same digests, in every store.
"""

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Entry
from gatesync.artifacts.comparing import compare
from gatesync.artifacts.model import Artifact, Identity
from gatesync.cli.gateways import gateway_rows
from gatesync.cli.naming import NameFilter
from gatesync.cli.output import Output
from gatesync.cli.remembering import fetch_content
from gatesync.cli.running import EXIT_NO, EXIT_UNREACHABLE, EXIT_WRONG
from gatesync.cli.session import CommandError, Target, call
from gatesync.config import Settings
from gatesync.publisher.answers import GatewaysAnswer
from gatesync.stores.git_retriever import GitRetriever, open_git_retriever
from gatesync.stores.http import HttpRetriever
from gatesync.stores.store import Retriever, StoreError, read_manifest
from gatesync.web.client import AnsweredError, HttpClient, UnreachableError

__all__ = ["show_diff_against_git"]

KEY = "diff --against-git"


class LabelDifference(msgspec.Struct, frozen=True):
    """One label: how many artifacts are the same, and which are not, by what they are called."""

    label: str
    same: int
    only_in_git: tuple[str, ...]
    only_in_cluster: tuple[str, ...]
    different: tuple[str, ...]

    @property
    def is_none(self) -> bool:
        """Whether the branch and the cluster say the same of it."""
        return not (self.only_in_git or self.only_in_cluster or self.different)


class GitDifference(msgspec.Struct, frozen=True):
    """What `diff --against-git --json` prints.

    `not_valid` is what of the branch no node would serve, and why, by its place there.
    `not_in_step` are gateways that do not serve what the cluster's log says. `diff` is that of
    the artifact which was named.
    """

    branch: str
    labels: tuple[LabelDifference, ...]
    not_valid: dict[str, tuple[str, ...]]
    not_in_step: tuple[str, ...]
    diff: str = ""


def show_diff_against_git(
    target: Target,
    settings: Settings,
    which: NameFilter | None,
    label: str | None,
    output: Output,
    *,
    whitespace: bool,
) -> int:
    """Show what differs, of one artifact or of everything; 1 where anything does."""
    source = settings.git.source_of("diff", KEY)

    async def work(client: HttpClient) -> GitDifference:
        with tempfile.TemporaryDirectory(prefix="gatesync-diff-") as folder:
            own = msgspec.structs.replace(source, cache=Path(folder))
            try:
                async with open_git_retriever(own) as branch:
                    comparing = _Comparing(client, branch, which, whitespace=whitespace)
                    return await comparing.compare(str(source), label)
            except StoreError as error:
                if isinstance(error.__cause__, UnreachableError | AnsweredError):
                    raise error.__cause__ from None
                raise CommandError(EXIT_UNREACHABLE, str(error)) from None

    with _no_log():
        found = call(target, work)
    output.document(found)
    for line in _lines(found):
        output.line(line)
    clean = all(each.is_none for each in found.labels) and not found.not_valid
    return 0 if clean and not found.not_in_step else EXIT_NO


@contextmanager
def _no_log() -> Iterator[None]:
    """What a node would log of the branch stands in the answer."""
    before = structlog.get_config()
    nothing = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=nothing)
    try:
        yield
    finally:
        structlog.configure(**before)


class _Comparing:
    def __init__(
        self,
        client: HttpClient,
        branch: GitRetriever,
        which: NameFilter | None,
        *,
        whitespace: bool,
    ) -> None:
        self._client = client
        self._cluster = HttpRetriever(client)
        self._branch = branch
        self._which = which
        self._whitespace = whitespace

    async def compare(self, name: str, label: str | None) -> GitDifference:
        """Compare one label, or all that the branch or the cluster has."""
        answer = await self._client.get("/v1/gateways", GatewaysAnswer)
        in_git = {head.label for head in await self._branch.labels()}
        labels = {label} if label is not None else in_git | {each.label for each in answer.heads}
        found, texts = [], []
        for each in sorted(labels, key=str.encode):
            in_branch = await self._entries(self._branch, each)
            in_cluster = await self._entries(self._cluster, each)
            found.append(_difference(each, in_branch, in_cluster))
            if self._which is not None:
                texts += [await self._text(each, in_branch, in_cluster)]
        if self._which is not None and not any(map(_count, found)):
            reason = f"neither the branch nor the cluster has an artifact named {self._which.name}"
            raise CommandError(EXIT_WRONG, reason)
        rows = gateway_rows(answer.gateways, answer.heads)
        late = (f"{row.node} ({row.label}): {row.state}" for row in rows if row.state != "in step")
        return GitDifference(
            branch=name,
            labels=tuple(found),
            not_valid=dict(self._branch.problems()),
            not_in_step=tuple(late),
            diff="\n".join(text for text in texts if text),
        )

    async def _entries(self, store: Retriever, label: str) -> dict[Identity, Entry]:
        _, entries = await read_manifest(store, label)
        wanted = entries.values()
        return {each.identity: each for each in wanted if not self._which or self._which.fits(each)}

    async def _text(
        self, label: str, in_branch: Mapping[Identity, Entry], in_cluster: Mapping[Identity, Entry]
    ) -> str:
        """The unified diff of each artifact that was named."""
        said = []
        for identity in sorted(in_branch.keys() | in_cluster.keys()):
            old, new = in_branch.get(identity), in_cluster.get(identity)
            if not (old and new and _same(old, new)):
                difference = compare(
                    await self._from_branch(old) if old else None,
                    await fetch_content(self._client, new) if new else None,
                    old_title=f"{label}, in Git",
                    new_title=f"{label}, revision {new.revision}" if new else f"{label}, not there",
                    whitespace=self._whitespace,
                )
                said.append(difference)
        return "\n".join(said)

    async def _from_branch(self, entry: Entry) -> Artifact:
        contents = await self._branch.contents([entry.digest])
        if entry.digest not in contents:
            raise CommandError(EXIT_UNREACHABLE, f"the branch moved while {entry.name} was read")
        return canonical.decode(contents[entry.digest])


def _difference(
    label: str, in_branch: Mapping[Identity, Entry], in_cluster: Mapping[Identity, Entry]
) -> LabelDifference:
    both = in_branch.keys() & in_cluster.keys()
    same = {each for each in both if _same(in_branch[each], in_cluster[each])}
    return LabelDifference(
        label,
        len(same),
        _named(in_branch.keys() - both),
        _named(in_cluster.keys() - both),
        _named(both - same),
    )


def _same(one: Entry, other: Entry) -> bool:
    return (one.digest, one.api_id) == (other.digest, other.api_id)


def _count(found: LabelDifference) -> int:
    return found.same + len(found.only_in_git + found.only_in_cluster + found.different)


def _named(identities: Iterable[Identity]) -> tuple[str, ...]:
    return tuple(str(each) for each in sorted(identities))


def _lines(found: GitDifference) -> list[str]:
    lines = [found.diff] if found.diff else []
    for each in found.labels:
        lines.append(f"{each.label}: {each.same} of {_count(each)} artifacts are the same")
        lines += [f"  only in Git          {name}" for name in each.only_in_git]
        lines += [f"  only in the cluster  {name}" for name in each.only_in_cluster]
        lines += [f"  different            {name}" for name in each.different]
    for place, reasons in sorted(found.not_valid.items()):
        lines += [f"not valid in Git: {r if place in r else f'{place}: {r}'}" for r in reasons]
    lines += [f"not in step: {each}" for each in found.not_in_step]
    return lines
