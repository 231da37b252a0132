"""What workers of one kind are to have at a revision, cut and written once for all of them."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from gatesync.mirroring.source_manifest import SourceFile, SourceManifest
from gatesync.mirroring.staging import Stage
from gatesync.mirroring.worker_manifest import Part, WorkerManifest, part_of, sha256_of

__all__ = ["Document", "Target", "Targets"]


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

    def document(
        self,
        *,
        held: Iterable[str] = (),
        unsure: Iterable[str] = (),
        going: Iterable[str] = (),
        instead: Sequence[SourceFile] = (),
        without: Iterable[str] = (),
    ) -> Document:
        """The manifest of a worker that has it, but for what is said.

        It is made once for all workers that are alike, as most of them are at most times.
        """
        left = frozenset(without)
        lists = (tuple(sorted(held)), tuple(sorted(unsure)), tuple(sorted(going)))
        key = (lists, left, tuple(instead))
        if key not in self._documents:
            files = [file for path, file in self.part.files.items() if path not in left]
            files = sorted((*files, *instead), key=lambda file: file.path)
            manifest = WorkerManifest(self.part.epoch, self.part.revision, tuple(files), *lists)
            data = manifest.to_json()
            self._documents[key] = Document(manifest, data, sha256_of(data))
        return self._documents[key]


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
