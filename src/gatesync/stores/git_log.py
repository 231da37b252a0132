"""From a branch's commits to labels' logs: the same on every node that reads the branch.

    steps = log.prepare(commits, objects)    what each commit changed, with the files it needs
    log.apply(steps, objects)                the same into the index, in order

A publisher's commit is what its note says it is. A person's is checked as every publish is: what
is not accepted is a problem that is told, the label keeps what it held there, and the rest counts.
What was refused for what other artifacts claim or need is tried again with the label's next change.

Blocks: it is for a thread, one caller at a time.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from gatesync.artifacts.changes import ChangeSet, Entry
from gatesync.artifacts.errors import Problem, ProblemsError
from gatesync.artifacts.folder import FOLDER_FILE
from gatesync.artifacts.planning import (
    Item,
    Publish,
    Remove,
    Renew,
    RenewHead,
    SaveRequest,
)
from gatesync.stores.git_choosing import largest
from gatesync.stores.git_layout import (
    Place,
    folder_of,
    place_of,
    regular,
    split,
    stray,
)
from gatesync.stores.git_message import Note, SetNote, fingerprint, note_of
from gatesync.stores.git_objects import Commit, Objects
from gatesync.stores.git_repository import FileChange
from gatesync.stores.git_sources import NOT_A_FILE, Files, Sources
from gatesync.stores.log_index import LogIndex, Planned, Record
from gatesync.stores.store import SaveOutcome, StoreError

__all__ = ["GitLog", "Step"]


class Step(NamedTuple):
    """A commit, its number, and the artifacts' folders that it touched, as it left them."""

    commit: Commit
    number: int
    touched: Mapping[str, Files]
    strays: Mapping[str, bool]


class GitLog:
    """The logs that one history of a branch makes.

    Args:
        epoch: of the history.
        sources: what is known of its files.

    Attributes:
        index: answers everything but contents.
        head: the last commit that was applied; empty before the first.
        count: how many commits that is, which is the highest revision so far.
        folders: the files of each artifact's folder at `head`.
        problems: what of the branch is not served, by folder or file.
    """

    def __init__(self, epoch: str, sources: Sources) -> None:
        self.epoch = epoch
        self.index = LogIndex(epoch)
        self.sources = sources
        self.head = ""
        self.count = 0
        self.folders: dict[str, Files] = {}
        self.problems: dict[str, tuple[str, ...]] = {}
        self._prepared: dict[str, dict[str, str]] = {}
        self._numbered = 0
        self._places: dict[str, Place | Problem] = {}
        self._held: dict[str, Entry] = {}  # by folder, which says the label, too
        self._unsettled: dict[str, set[str]] = {}
        self._undescribed: dict[str, set[str]] = {}
        self._parts: list[ChangeSet] = []
        self._run = "", 0  # where the next of several commits that belong together would stand

    def held(self, folder: str) -> Entry | None:
        """What the label holds of this folder."""
        return self._held.get(folder)

    def prepare(
        self, commits: Iterable[tuple[Commit, Sequence[FileChange]]], objects: Objects
    ) -> list[Step]:
        """Find what each of the next commits touched, and build it.

        Raises:
            DamagedError: an object is not in the clone.
        """
        steps = []
        for commit, changes in commits:
            self._numbered += 1
            steps.append(self._step(commit, changes))
            self._believe(steps[-1])
        self.sources.build_all(
            (
                (place.identity, folder, files)
                for step in steps
                for folder, files in step.touched.items()
                if files and isinstance(place := self._place(folder), Place)
            ),
            objects,
        )
        return steps

    def apply(self, steps: Iterable[Step], objects: Objects) -> None:
        """Take these over, in order.

        Raises:
            DamagedError: an object is not in the clone.
            StoreError: a commit cannot be taken over; the log is of no use then.
        """
        for step in steps:
            try:
                self._apply(step, objects)
            except (LookupError, ValueError) as error:  # whatever its note says, no node may end
                raise StoreError(
                    f"commit {step.commit.id[:12]} cannot be taken over ({error!r}); "
                    "take it off the branch"
                ) from error

    def _apply(self, step: Step, objects: Objects) -> None:
        self.folders.update(step.touched)
        note = note_of(step.commit)
        if note is not None and self._is_here(note, step.touched) and self._apply_own(step, note):
            self._run = note.base, note.at + 1
        else:
            self._run = "", 0
            self._apply_foreign(step, objects)
        for path, there in step.strays.items():
            self._report(path, [problem] if there and (problem := stray(path)) else [])
        self.head, self.count = step.commit.id, step.number

    def adopt(self, step: Step) -> None:
        """Take over a commit that this process has written; `prepare` has not seen it."""
        self._numbered = step.number
        for folder, files in step.touched.items():
            self._prepared[folder] = dict(files)

    def describe(self, labels: Iterable[str], objects: Objects) -> None:
        """Find what the artifacts of these labels claim and need, where that was not looked for."""
        for label in labels:
            folders = self._undescribed.pop(label, set())
            for folder in folders:
                entry = self._held.get(folder)
                place = self._place(folder)
                if entry is None or isinstance(place, Problem):
                    continue
                try:
                    self.learn(label, folder, self._publish_held(place, entry, objects))
                except ProblemsError as error:  # accepted once, by another version
                    self._report(folder, error.problems)

    def learn(self, label: str, folder: str, publish: Publish) -> None:
        """Note what an artifact that a label holds claims and needs."""
        self.index.learn(label, publish)
        self._undescribed.get(label, set()).discard(folder)

    # What a commit touched -----------------------------------------------------------------

    def _step(self, commit: Commit, changes: Iterable[FileChange]) -> Step:
        touched: dict[str, dict[str, str]] = {}
        strays: dict[str, bool] = {}
        for path, mode, blob in changes:
            found = split(path)
            if found is None:
                if path.rpartition("/")[2] == FOLDER_FILE:
                    strays[path] = bool(mode)
                continue
            folder, file = found
            files = self._prepared.setdefault(folder, {})
            touched[folder] = files
            if mode:
                files[file] = blob if regular(mode) else NOT_A_FILE
            else:
                files.pop(file, None)
        frozen = {folder: tuple(sorted(files.items())) for folder, files in touched.items()}
        return Step(commit, self._numbered, frozen, strays)

    def _believe(self, step: Step) -> None:
        """Take what a publisher says that its files make: contents prove it when they are read."""
        note = note_of(step.commit)
        if note is None or not note.files or fingerprint(step.touched) != note.files:
            return
        said = {each.label: iter(each.brought) for each in note.sets}
        for folder, files in sorted(step.touched.items()):
            place = self._place(folder)
            if not files or isinstance(place, Problem) or place.label not in said:
                continue
            brought = next(said[place.label], None)
            if brought is not None:
                self.sources.believe(place.identity, folder, files, brought)

    def _place(self, folder: str) -> Place | Problem:
        found = self._places.get(folder)
        if found is None:
            try:
                found = place_of(folder)
            except Problem as problem:
                found = problem
            self._places[folder] = found
        return found

    # A publisher's commits ----------------------------------------------------------------

    def _is_here(self, note: Note, touched: Mapping[str, Files]) -> bool:
        """Whether the note was written for this place of the history, and these files."""
        if note.sets and (note.files != fingerprint(touched) or not self._is_sound(note)):
            return False
        if note.at == 0:
            return note.base == self.head
        return (note.base, note.at) == self._run

    def _apply_own(self, step: Step, note: Note) -> bool:
        """Whether it is what its note says; nothing has happened otherwise."""
        labels = {each.label for each in note.sets}
        touched: dict[str, list[str]] = {}
        for folder in step.touched:
            place = self._place(folder)
            if isinstance(place, Problem) or place.label not in labels:
                return False
            touched.setdefault(place.label, []).append(folder)
        planned: list[tuple[SetNote, Record, list[str]]] = []
        for each in note.sets:
            folders = [*touched.get(each.label, ()), *each.standing]
            try:
                items = self._items(folders, each.renewed)
            except (ProblemsError, KeyError):
                return False
            in_order = _permuted(items, each.order)
            plan = self._plan(step, each.label, in_order or [self._renewed_head(each.label)], note)
            if not plan.records or not plan.records[0].change_sets:
                return False
            planned.append((each, plan.records[0], folders))
        for each, record, folders in planned:
            change_set = msgspec.structs.replace(record.change_sets[0], signature=each.signature)
            self._append(record, change_set, note.author, note.origin)
            self._parts.append(change_set)
            for folder in folders:
                self._settle(each.label, folder)
                if folder in self._held:
                    self._undescribed.setdefault(each.label, set()).add(folder)
        self._end_request(note)
        if note.confirmed is not None:
            self.index.confirm(note.confirmed.label, note.confirmed.confirmation)
        return True

    def _is_sound(self, note: Note) -> bool:
        """Whether the note names each label once, and with it only folders that are its own."""
        for each in note.sets:
            for folder in (*each.standing, *each.renewed):
                if folder not in self.folders:
                    return False
                place = self._place(folder)
                if isinstance(place, Problem) or place.label != each.label:
                    return False
        return len({each.label for each in note.sets}) == len(note.sets)

    def _items(self, folders: Iterable[str], renewed: Sequence[str] = ()) -> list[Item]:
        """What the folders' files make of what is held of them, in the order of `SetNote`."""
        items: list[Item] = []
        for folder in sorted({*folders, *renewed}):
            if folder in renewed:
                items.append(Renew(self._held[folder]))
                continue
            before = self._held.get(folder)
            after = self._published(folder)
            if before is not None and (after is None or after.api_id != before.api_id):
                items.append(Remove(before.api_id))
            if after is not None and (before is None or not _same(before, after)):
                items.append(Publish(after, b"", ()))
        return items

    def _published(self, folder: str) -> Entry | None:
        """What the folder's files make. Raises `ProblemsError`."""
        files = self.folders.get(folder, ())
        if not files or not (_is_artifact(files) or folder in self._held):
            return None  # some other folder of the repository
        place = self._place(folder)
        if isinstance(place, Problem):
            raise ProblemsError([place])
        return self.sources.entry(place.identity, files)

    def _renewed_head(self, label: str) -> RenewHead:
        return RenewHead(self.index.heads([label])[label].revision)

    def _end_request(self, note: Note) -> None:
        """After a request's last commit: remember what it came to."""
        if note.part != note.parts:
            return
        change_sets, self._parts = tuple(self._parts), []
        if not note.key:
            return
        heads = self.index.heads(note.labels)
        self.index.remember(
            Record(
                key=note.key,
                fingerprint=note.fingerprint,
                change_sets=change_sets,
                heads=tuple(heads[label] for label in note.labels),
                author=note.author,
                origin=note.origin,
            )
        )

    # People's commits ---------------------------------------------------------------------

    def _apply_foreign(self, step: Step, objects: Objects) -> None:
        self._parts = []
        labels: dict[str, set[str]] = {}
        for folder in step.touched:
            place = self._place(folder)
            if isinstance(place, Place):
                labels.setdefault(place.label, set()).add(folder)
            else:
                self._report(folder, [place] if _is_artifact(step.touched[folder]) else [])
        for label in sorted(labels, key=str.encode):
            self.describe([label], objects)
            folders = labels[label] | self._unsettled.get(label, set())
            items = self._checked_items(folders, objects)
            taken, record = self._largest(step, label, items)
            if record is not None:
                origin = f"commit {step.commit.id[:12]} ({step.commit.email})"
                self._append(record, record.change_sets[0], step.commit.author, origin)
            for folder in taken:
                self._settle(label, folder)
                held = self._held.get(folder)
                if held is not None:
                    place = self._place(folder)
                    assert isinstance(place, Place)
                    self.learn(label, folder, self._publish_held(place, held, objects))

    def _checked_items(self, folders: Iterable[str], objects: Objects) -> dict[str, list[Item]]:
        """The items of each folder whose artifact is sound by itself; the others are reported."""
        found: dict[str, list[Item]] = {}
        for folder in sorted(folders):
            try:
                items = self._items([folder])
                for number, each in enumerate(items):
                    if isinstance(each, Publish):
                        place = self._place(folder)
                        assert isinstance(place, Place)
                        files = self.folders[folder]
                        items[number] = self.sources.publish(place.identity, files, objects)
            except ProblemsError as error:
                self._report(folder, error.problems)
                continue
            self._report(folder, [])
            found[folder] = items
        return found

    def _largest(
        self, step: Step, label: str, items: Mapping[str, list[Item]]
    ) -> tuple[list[str], Record | None]:
        """As many of the folders as can go live together, and the record of that."""

        def refused(folders: Sequence[str]) -> tuple[str, ...]:
            wanted = [item for folder in folders for item in items[folder]]
            [answer] = self._plan(step, label, wanted).answers
            return () if isinstance(answer, SaveOutcome) else answer.reasons

        taken = largest(list(items), lambda folders: not refused(folders))
        for folder in items.keys() - set(taken):
            self.problems[folder] = refused([*taken, folder])
            self._unsettled.setdefault(label, set()).add(folder)
        wanted = [item for folder in taken for item in items[folder]]
        records = self._plan(step, label, wanted).records
        changed = [each for each in records if each.change_sets]
        return taken, changed[0] if changed else None

    def _publish_held(self, place: Place, entry: Entry, objects: Objects) -> Publish:
        """The publish of what is held, also where its folder has something else by now."""
        return self.sources.publish(place.identity, self.sources.files_of(entry.digest), objects)

    # Both ---------------------------------------------------------------------------------

    def _plan(
        self, step: Step, label: str, items: Sequence[Item], note: Note | None = None
    ) -> Planned:
        request = SaveRequest(
            labels=(label,),
            sets=(tuple(items),),
            key="",
            fingerprint="",
            published_at=note.published_at if note else 1000 * step.commit.committed_at,
            publisher=note.publisher if note else "",
            force=note is not None,  # whoever wrote it has checked it, or was told to force it
        )
        return self.index.plan([request], first_revision=step.number)

    def _append(self, record: Record, change_set: ChangeSet, author: str, origin: str) -> None:
        self.index.append(
            msgspec.structs.replace(record, change_sets=(change_set,), author=author, origin=origin)
        )
        for change in change_set.changes:
            folder = folder_of(change_set.label, change.entry.identity)
            if change.instruction == "Publish":
                self._held[folder] = change.entry
            elif self._held.get(folder) == change.entry:
                del self._held[folder]

    def _settle(self, label: str, folder: str) -> None:
        self._report(folder, [])
        self._unsettled.get(label, set()).discard(folder)

    def _report(self, place: str, problems: Iterable[Problem]) -> None:
        if found := tuple(str(problem) for problem in problems):
            self.problems[place] = found
        else:
            self.problems.pop(place, None)


def _is_artifact(files: Files) -> bool:
    return any(path == FOLDER_FILE for path, _ in files)


def _same(before: Entry, after: Entry) -> bool:
    return before.digest == after.digest and before.api_id == after.api_id


def _permuted(items: list[Item], order: Sequence[int]) -> list[Item]:
    if sorted(order) != list(range(len(items))):
        return items
    return [items[at] for at in order]
