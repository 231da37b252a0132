"""What workers of one kind are to have at a revision, cut and written once for all of them."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from gatesync.mirroring.rsync import Comparison
from gatesync.mirroring.source_manifest import SourceFile, SourceManifest
from gatesync.mirroring.staging import Stage
from gatesync.mirroring.worker_manifest import Part, WorkerManifest, part_of, sha256_of
from gatesync.mirroring.worker_plan import Plan, Standing, plan

__all__ = ["Document", "Remembered", "Target", "Targets"]

REMEMBERED: Final = 8  # workers that are in step, or nearly, have the same one or two


class Document(msgspec.Struct, frozen=True):
    """A worker's manifest, as it is and as it is written."""

    manifest: WorkerManifest
    data: bytes
    sha256: str


class Target:
    """What workers of one kind are to have, and what was put aside of it.

    Args:
        part: what they are to have.
        stage: where it is put aside.
    """

    def __init__(self, part: Part, stage: Stage) -> None:
        self.part = part
        self.stage = stage
        self._documents: dict[object, Document] = {}
        self._plans: dict[object, Plan] = {}

    def plan(
        self,
        standing: Standing,
        comparison: Comparison | None,
        *,
        mirror: bool,
        confirmed: bool,
    ) -> Plan:
        """See `worker_plan.plan`. Made once for workers of which the same is known."""
        if standing.sha256 is None or comparison is not None:
            return plan(self.part, standing, comparison, mirror=mirror, confirmed=confirmed)
        key = (standing.sha256, mirror, confirmed)
        if key not in self._plans:
            self._plans[key] = plan(self.part, standing, None, mirror=mirror, confirmed=confirmed)
        return self._plans[key]

    def document(
        self,
        *,
        held: Iterable[str] = (),
        unsure: Iterable[str] = (),
        going: Iterable[str] = (),
        instead: Iterable[SourceFile] = (),
        without: Iterable[str] = (),
    ) -> Document:
        """The manifest of a worker that has it, but for what is said.

        It is made once for all workers that are alike, as most of them are at most times.
        """
        left = frozenset(without)
        lists = (tuple(sorted(held)), tuple(sorted(unsure)), tuple(sorted(going)))
        others = tuple(sorted(instead, key=lambda file: file.path))
        key = (lists, left, others)
        if key not in self._documents:
            files = [file for path, file in self.part.files.items() if path not in left]
            files = sorted((*files, *others), key=lambda file: file.path)
            manifest = WorkerManifest(self.part.epoch, self.part.revision, tuple(files), *lists)
            data = manifest.to_json()
            self._documents[key] = Document(manifest, data, sha256_of(data))
        return self._documents[key]


class Remembered:
    """Manifests that heads vouch for, so that one that is known is not read from each worker."""

    def __init__(self) -> None:
        self._standings: dict[str, Standing] = {}

    def get(self, sha256: str) -> Standing | None:
        """What a worker has whose head vouches for this manifest, if it is remembered."""
        return self._standings.get(sha256)

    def put(self, sha256: str, manifest: WorkerManifest) -> Standing:
        """What a worker has whose head vouches for this manifest; it is remembered."""
        if sha256 in self._standings:
            return self._standings[sha256]
        while len(self._standings) >= REMEMBERED:
            del self._standings[next(iter(self._standings))]
        # What was going when it was made is gone.
        manifest = msgspec.structs.replace(manifest, going=())
        standing = Standing({file.path: file for file in manifest.files}, (manifest,), sha256)
        self._standings[sha256] = standing
        return standing


class Targets:
    """The targets of the newest manifest, and older ones as long as somebody is at work with them.

    Args:
        folder: private; what is put aside rests here, while there is a use for it.
        source: the root that manifests tell of.
    """

    def __init__(self, folder: Path, source: Path) -> None:
        self._folder = folder
        self._source = source
        self._newest: SourceManifest | None = None
        self._targets: dict[str, Target] = {}
        self._made = 0

    @asynccontextmanager
    async def using(self, manifest: SourceManifest, folder: str) -> AsyncIterator[Target]:
        """The target of the workers whose part is this folder of the source."""
        if manifest is not self._newest:
            self._newest = manifest
            self._targets.clear()
        if folder not in self._targets:
            self._made += 1
            root = self._folder / str(self._made)
            part = part_of(manifest, folder)
            self._targets[folder] = Target(part, Stage(root, self._source / folder, part))
        target = self._targets[folder]
        target.stage.users += 1
        try:
            yield target
        finally:
            target.stage.users -= 1
            if target.stage.users == 0:
                await target.stage.clear()
