"""From what was planned to commits, and from commits that were pushed to the log. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

import msgspec

from gatesync.artifacts.changes import Change, ChangeSet, Instruction
from gatesync.artifacts.errors import FormatError, ProblemsError
from gatesync.artifacts.planning import Publish, SaveRequest
from gatesync.stores.git_layout import Built, files_in, folder_of, place_of, rebuild
from gatesync.stores.git_log import GitLog, Step
from gatesync.stores.git_message import (
    COMMIT_FORMAT,
    Brought,
    Note,
    SetNote,
    fingerprint,
    subject_of,
    with_note,
)
from gatesync.stores.git_objects import Commit, Objects, blob_id
from gatesync.stores.git_repository import Draft
from gatesync.stores.git_sources import Files
from gatesync.stores.log_index import Planned, Record
from gatesync.stores.store import StoreError

__all__ = ["Written", "drafts_of", "extension"]


class Written(msgspec.Struct):
    """Commits to write, the folders that each touches, and what is known of their artifacts.

    `published` has a label's publish by its folder, `built` an artifact by its folder and files.
    """

    drafts: list[Draft] = []
    touched: list[dict[str, Files]] = []
    published: dict[str, tuple[str, Publish]] = {}
    built: dict[tuple[str, Files], Built] = {}


class _Folders:
    """The files of folders on top of the commits that are drafted already."""

    def __init__(self, log: GitLog) -> None:
        self._log = log
        self._new: dict[str, Files] = {}
        self._made: dict[str, tuple[dict[str, bytes], Built]] = {}  # by digest

    def get(self, folder: str) -> Files:
        return self._new.get(folder, self._log.folders.get(folder, ()))

    def put(self, folder: str, files: Files) -> None:
        self._new[folder] = files

    def files_of(
        self, folder: str, change: Change, content: bytes
    ) -> tuple[dict[str, bytes], Built]:
        """The files of what is published, which make the very same again."""
        entry = msgspec.structs.replace(change.entry, revision=0)
        if entry.digest not in self._made:
            try:
                files = files_in(content)
            except (ProblemsError, FormatError) as error:
                raise StoreError(f"{entry.identity} cannot be written as files: {error}") from error
            if rebuild(files, entry.identity, folder, entry.digest) != content:
                raise StoreError(f"{entry.identity} would not come back from its files as it is")
            self._made[entry.digest] = files, Built(entry, content)
        return self._made[entry.digest]


def drafts_of(log: GitLog, requests: Sequence[SaveRequest], planned: Planned, now: int) -> Written:
    """The commits that carry out a plan on top of the log; `now` in seconds since 1970.

    A commit for each change set, and at the end one for each request that changed nothing, so
    that its key is remembered.

    Raises:
        StoreError: an artifact cannot be written as files.
    """
    asked = {request.key: request for request in reversed(requests)}
    written = Written()
    folders = _Folders(log)
    silent: list[Record] = []
    for record in planned.records:
        request = asked[record.key]
        commits = [list(sets) for _, sets in groupby(record.change_sets, lambda s: s.revision)]
        if not commits:
            silent.append(record)
        for part, sets in enumerate(commits, start=1):
            note = _note(log, request, len(written.drafts), part, len(commits))
            _draft(written, folders, sets, planned.contents, request, note, now)
        for items in request.sets:
            for item in items:
                if isinstance(item, Publish):
                    for label in request.labels:
                        folder = folder_of(label, item.entry.identity)
                        written.published[folder] = label, item
    for record in silent:
        request = asked[record.key]
        note = _note(log, request, len(written.drafts), 1, 1)
        subject = f"Nothing to change in {', '.join(request.labels)}"
        written.drafts.append(_plain_draft(subject, note, request, now))
        written.touched.append({})
    return written


def extension(written: Written, ids: Sequence[str]) -> Callable[[GitLog, Objects], None]:
    """What takes the commits, which have these ids now, over into the log."""

    def extend(log: GitLog, objects: Objects) -> None:
        for (folder, files), built in written.built.items():
            log.sources.add(built.entry.identity, folder, files, built)
        steps = list(_steps(log, written, ids))
        for step in steps:
            log.adopt(step)
        log.apply(steps, objects)
        for folder, (label, publish) in written.published.items():
            held = log.held(folder)
            if held is not None and held.digest == publish.entry.digest:
                log.learn(label, folder, msgspec.structs.replace(publish, content=b""))

    return extend


def _steps(log: GitLog, written: Written, ids: Sequence[str]) -> Iterator[Step]:
    parent = log.head
    for number, (draft, touched, commit_id) in enumerate(
        zip(written.drafts, written.touched, ids, strict=True), start=log.count + 1
    ):
        parents = (parent,) if parent else ()
        commit = Commit(commit_id, parents, draft.author, "", draft.committed_at, draft.message)
        yield Step(commit, number, touched, {})
        parent = commit_id


def _draft(
    written: Written,
    folders: _Folders,
    sets: Sequence[ChangeSet],
    contents: Mapping[str, bytes],
    request: SaveRequest,
    note: Note,
    now: int,
) -> None:
    """One commit: the same change set in all its labels."""
    touched: dict[str, Files] = {}
    dropped: list[str] = []
    added: list[tuple[str, bytes]] = []
    notes: list[SetNote] = []
    for change_set in sets:
        wanted: dict[str, tuple[Files, dict[str, bytes]]] = {}
        renewed: list[str] = []
        for change in change_set.changes:
            folder = folder_of(change_set.label, change.entry.identity)
            if change.instruction is Instruction.REMOVE:
                wanted.setdefault(folder, ((), {}))
            elif change.entry.digest in contents:
                files, built = folders.files_of(folder, change, contents[change.entry.digest])
                like = note.base or "0" * 40
                key = tuple(sorted((path, blob_id(c, like)) for path, c in files.items()))
                wanted[folder] = key, files
                written.built[folder, key] = built
            else:
                renewed.append(folder)
        standing: list[str] = []
        for folder, (key, files) in wanted.items():
            before = folders.get(folder)
            if before == key:
                standing.append(folder)
                continue
            if before:
                dropped.append(folder)
            touched[folder] = key
            folders.put(folder, key)
            added += [(f"{folder}/{path}", content) for path, content in files.items()]
        notes.append(
            SetNote(
                label=change_set.label,
                renewed=tuple(renewed),
                standing=tuple(standing),
                order=_order(change_set),
                signature=change_set.signature,
            )
        )
    note = msgspec.structs.replace(
        note,
        sets=tuple(_with_brought(each, touched, written) for each in notes),
        files=fingerprint(touched),
    )
    draft = _plain_draft(subject_of(sets), note, request, now)
    written.drafts.append(msgspec.structs.replace(draft, dropped=dropped, files=added))
    written.touched.append(touched)


def _with_brought(note: SetNote, touched: Mapping[str, Files], written: Written) -> SetNote:
    """The set's note, with what the folders of its label make that are there now."""
    brought = []
    for folder, files in sorted(touched.items()):
        if files and place_of(folder).label == note.label:
            entry = written.built[folder, files].entry
            api_id = "" if entry.api_id == entry.identity.default_api_id() else entry.api_id
            brought.append(Brought(entry.digest, entry.size, entry.context, api_id))
    return msgspec.structs.replace(note, brought=tuple(brought))


def _plain_draft(subject: str, note: Note, request: SaveRequest, now: int) -> Draft:
    asked_at = request.published_at // 1000 or now
    return Draft(with_note(subject, note), request.author, asked_at, now)


def _note(log: GitLog, request: SaveRequest, at: int, part: int, parts: int) -> Note:
    return Note(
        format=COMMIT_FORMAT,
        base=log.head,
        at=at,
        publisher=request.publisher,
        author=request.author,
        origin=request.origin,
        published_at=request.published_at,
        key=request.key,
        fingerprint=request.fingerprint,
        part=part,
        parts=parts,
        labels=request.labels,
    )


def _order(change_set: ChangeSet) -> tuple[int, ...]:
    """See `SetNote.order`; empty where it is the order that the folders have."""
    places = [
        (folder_of(change_set.label, c.entry.identity), c.instruction is Instruction.PUBLISH)
        for c in change_set.changes
    ]
    rank = {place: number for number, place in enumerate(sorted(places))}
    order = tuple(rank[place] for place in places)
    return () if order == tuple(range(len(order))) else order
