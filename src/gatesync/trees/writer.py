"""Writes artifacts into a server's tree: staged first, then put in their places one by one.

    stage    plan, intents, contents beside their places        nothing is seen yet
    commit   appear in the order of deployment, remove in reverse, record

A process that is killed at any point leaves whole files, and intents that say which of them are
ours; the next start tidies up, and deploying again ends with the exact tree.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

import structlog

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import Artifact
from gatesync.trees.disk import Disk, Facts
from gatesync.trees.drift import Drift, drift_after, forget_other_root
from gatesync.trees.errors import InTheWayError, TreeError, explain
from gatesync.trees.manifest import Intent, Manifest, Row
from gatesync.trees.planning import SkipList, deploy_rank, is_skipped
from gatesync.trees.plans import Plan, Planner, Write

__all__ = ["Staged", "TreeWriter"]

_log = structlog.get_logger("gatesync.trees")


class Staged:
    """What `stage` prepared. `refused` says why, by api_id."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self.plans: dict[str, Plan] = {}
        self.facts: dict[str, Facts] = {}  # of what was staged, by the path it is staged for
        self.removed: list[Row] = []

    @property
    def writes(self) -> list[Write]:
        """Everything that is to appear, what others may need first."""
        found = [write for plan in self.plans.values() for write in plan.writes]
        return sorted(found, key=lambda each: deploy_rank(each.file.role, each.file.path))


class TreeWriter:
    """The only writer of a tree. One caller, and one thread, at a time.

    Args:
        disk: the `repository` folder.
        manifest: the record of what was written there.
        skip: file names that are never touched.
        restore: whether what people do to its files is undone.

    Attributes:
        files: how many are in the tree and ours.
    """

    def __init__(
        self,
        disk: Disk,
        manifest: Manifest,
        *,
        skip: SkipList | None = None,
        restore: bool = True,
    ) -> None:
        self.restore = restore
        self._disk = disk
        self._manifest = manifest
        self._skip = skip or {}
        self._doubtful = True  # whether there may be intents of what was cut short
        forget_other_root(disk, manifest)
        self.files = manifest.count()
        self._settle()

    def api_ids(self) -> set[str]:
        """The artifacts that have files in the tree. Raises `TreeError`."""
        return self._manifest.api_ids()

    def stage(
        self,
        artifacts: Sequence[Artifact],
        removed: Collection[str] = (),
        is_served: Callable[[str], bool] = lambda _: False,
    ) -> Staged:
        """Prepare what these artifacts need; what cannot be done is refused, and changes nothing.

        Raises `TreeError` where it cannot be told which files are ours.

        Args:
            artifacts: what is to be in the tree, each api_id once.
            removed: the api_ids of what is to be there no more.
            is_served: whether an artifact that has files is served now: only then does it keep
                a path that another one wants. What was saved by an earlier process does not.
        """
        self._settle()
        staged = Staged()
        for api_id in removed:
            staged.removed += self._manifest.of_artifact(api_id)
        with self._disk:
            planner = Planner(
                self._disk,
                self._manifest,
                self._skip,
                restore=self.restore,
                removed=removed,
                leaving=staged.removed,
                is_served=is_served,
            )
            for artifact in artifacts:
                try:
                    staged.plans[artifact.api_id] = planner.plan(artifact)
                except Problem as problem:
                    staged.refused[artifact.api_id] = str(problem)
                except (TreeError, OSError) as error:
                    staged.refused[artifact.api_id] = explain(error, str(self._disk.root))
            self._write_beside(staged)
        self._drop(staged, staged.refused)
        return staged

    def unstage(self, staged: Staged) -> None:
        """Take back what was prepared. What cannot be taken back now is tidied up later."""
        self._drop(staged, staged.plans)

    def commit(self, staged: Staged, refused: Collection[str] = ()) -> dict[str, str]:
        """Put everything in its place, but for what the engine refused.

        Answers with what could not be finished, and why, by api_id: staging it again is safe.
        """
        self._drop(staged, refused)
        plans, writes = staged.plans.values(), staged.writes
        rows = [row for plan in plans for row in plan.found]
        leaving = [row for plan in plans for row in plan.leaving] + staged.removed
        if not (writes or rows or leaving):
            return {}
        failed: dict[str, str] = {}
        self._doubtful = True
        try:
            # What is gone when the process is killed must not seem to be removed by people.
            self._manifest.leave(row.path for row in leaving)
            with self._disk:
                rows += self._appear(writes, staged.facts, failed)
                kept = {row.path for row in rows}
                gone = list(self._vanish([row for row in leaving if row.path not in kept], failed))
                self._disk.sync()
                for write in writes:
                    if write.api_id in failed:
                        self._unstage(write.file.path)
            settled = [each.file.path for each in writes if each.api_id not in failed]
            self.files += self._manifest.record(rows, gone, settled)
        except (TreeError, OSError) as error:
            reason = explain(error, str(self._disk.root))
            return dict.fromkeys((*staged.plans, *(row.api_id for row in staged.removed)), reason)
        self._doubtful = bool(failed)
        return failed

    def drift(self, after: str = "") -> tuple[list[Drift], str]:
        """Compare the next files with what was written there.

        Answers with what differs, and with the path to go on after; it is empty at the end.
        Raises `TreeError` where that cannot be told.
        """
        return drift_after(self._disk, self._manifest, after)

    # Before anything is seen ------------------------------------------------------------------

    def _write_beside(self, staged: Staged) -> None:
        writes = staged.writes
        if not writes:
            return
        try:
            self._doubtful = True
            self._manifest.intend(_intent(write) for write in writes)
        except TreeError as error:
            staged.refused.update((write.api_id, str(error)) for write in writes)
            return
        owners = {write.file.path: write.api_id for write in writes}
        contents = [(write.file.path, write.file.content) for write in writes]
        for path, facts in self._disk.stage(contents):
            if isinstance(facts, Facts):
                staged.facts[path] = facts
            else:
                staged.refused[owners[path]] = explain(facts, str(self._disk.root / path))

    def _drop(self, staged: Staged, api_ids: Collection[str]) -> None:
        """Forget the plans of these artifacts, and what was staged for them."""
        plans = [staged.plans.pop(api_id) for api_id in list(api_ids) if api_id in staged.plans]
        paths = [write.file.path for plan in plans for write in plan.writes]
        if not paths:
            return
        with self._disk:
            for path in paths:
                self._unstage(path)
        try:
            self._manifest.record((), (), paths)
        except TreeError:
            self._doubtful = True

    def _unstage(self, path: str) -> None:
        try:
            self._disk.unstage(path)
        except (TreeError, OSError) as error:
            _log.warning("an unfinished file stays for now", path=path, reason=str(error))

    # In everybody's sight ---------------------------------------------------------------------

    def _appear(
        self, writes: Sequence[Write], facts: dict[str, Facts], failed: dict[str, str]
    ) -> Iterator[Row]:
        """Put these in their places, in this order; yields what is ours then."""
        for write in writes:
            if write.api_id in failed:
                continue  # what comes next may need what failed
            file = write.file
            try:
                self._put(write)
            except (TreeError, OSError) as error:
                failed[write.api_id] = explain(error, file.path)
            else:
                yield Row(
                    file.path, write.api_id, file.role, file.name, file.digest, facts[file.path]
                )

    def _put(self, write: Write) -> None:
        path = write.file.path
        if self._disk.look(path) != write.over:
            raise InTheWayError(f"{path} was changed by somebody else meanwhile")
        if write.moved is not None:
            # One rename: no moment in which an engine finds two files of one name, or none.
            self._disk.move(write.moved.path, path)
            self._disk.put_over(path)
        elif write.over is not None:
            self._disk.put_over(path)
        else:
            try:
                self._disk.put_new(path)
            except FileExistsError:
                raise InTheWayError(f"{path} was put there by somebody else meanwhile") from None

    def _vanish(self, rows: Sequence[Row], failed: dict[str, str]) -> Iterator[str]:
        """Remove these, what needs others first; yields the paths that are not ours any more."""
        for row in sorted(rows, key=lambda each: deploy_rank(each.role, each.path), reverse=True):
            if row.api_id in failed:
                continue
            try:
                if not is_skipped(row.path, self._skip) and self._disk.look(row.path) is not None:
                    self._disk.remove(row.path)
            except InTheWayError as error:
                _log.warning("not removed: it is no file of ours any more", reason=str(error))
            except OSError as error:
                failed[row.api_id] = explain(error, row.path)
                continue
            yield row.path

    # After a process was killed ---------------------------------------------------------------

    def _settle(self) -> None:
        """Find out what became of intents that were neither finished nor given up."""
        if not self._doubtful:
            return
        rows, paths = [], []
        with self._disk:
            for intent in self._manifest.intents():
                self._unstage(intent.path)
                try:
                    facts = self._disk.look(intent.path)
                    digest = None if facts is None else self._disk.digest(intent.path)
                except InTheWayError:
                    facts = digest = None
                except OSError as error:
                    raise TreeError(explain(error, intent.path)) from error
                paths.append(intent.path)
                if facts and digest and digest in {intent.digest, intent.moved}:
                    named = (intent.path, intent.api_id, intent.role, intent.name)
                    rows.append(Row(*named, digest, facts))
        if paths:
            self.files += self._manifest.record(rows, (), paths)
        self._doubtful = False


def _intent(write: Write) -> Intent:
    file, moved = write.file, write.moved
    digest = moved.digest if moved else None
    return Intent(file.path, write.api_id, file.role, file.name, file.digest, digest)
