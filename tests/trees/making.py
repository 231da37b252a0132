"""Artifacts with files, a tree to save them in, and a process that is killed at a step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Entry
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.model import KINDS, SUPER_TENANT, Artifact, Identity, Part
from gatesync.artifacts.places import path_in_repository
from gatesync.engines.engine import Deployable
from gatesync.trees.disk import Disk
from gatesync.trees.manifest import Manifest
from gatesync.trees.writer import TreeWriter

CONFIGS: Final = "deployment/server/synapse-configs/default"


def part(path: str, content: bytes | str = "1", name: str = "") -> Part:
    """A file; its role is that of its folder."""
    folder, _, file = path.partition("/")
    role = next(role for role, each in KINDS.items() if each == folder)
    body = content.encode() if isinstance(content, str) else content
    return Part(role, name or file.removesuffix(".xml"), path, body)


def artifact(name: str, *parts: Part, tenant: str = SUPER_TENANT, kind: str = "api") -> Artifact:
    identity = Identity(tenant, kind, name, "1.0.0" if kind == "api" else "")
    ordered = sorted(parts, key=lambda each: (each.role, each.path))
    return Artifact(identity, identity.default_api_id(), tuple(ordered))


def menu(text: str = "1", name: str = "Menu") -> Artifact:
    """An API with a sequence, an endpoint and a local entry of its own."""
    return artifact(
        name,
        part(f"api/admin--{name}_v1.0.0.xml", f"<api>{text}</api>"),
        part(f"sequences/{name}--v1.0.0--In.xml", f"<sequence>{text}</sequence>"),
        part(f"endpoints/{name}--v1.0.0_APIproductionEndpoint.xml", f"<endpoint>{text}</endpoint>"),
        part(f"local-entries/{name}.xml", "<localEntry/>"),
    )


def deployable(made: Artifact) -> Deployable:
    content = canonical.encode(made)
    identity = made.identity
    entry = Entry(
        api_id=made.api_id,
        tenant=identity.tenant,
        kind=identity.kind,
        name=identity.name,
        version=identity.version,
        context="",
        digest=digest_of(content),
        size=len(content),
    )
    return Deployable(entry, content)


def files_wanted(*artifacts: Artifact) -> dict[str, bytes]:
    """The exact tree that these make."""
    found = {}
    for each in artifacts:
        for file in each.parts:
            path = path_in_repository(file.path, each.identity.tenant)
            assert path is not None
            found[path] = file.content
    return found


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


class Killed(BaseException):
    """The process is gone; nothing of it runs any more."""


class Killer:
    """Called before each step; kills at one of them. A dead process does no step at all."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.steps: list[str] = []
        self.dead = False

    def __call__(self, what: str) -> None:
        self.dead = self.dead or len(self.steps) == self.at
        if self.dead:
            raise Killed(what)
        self.steps.append(what)


@contextmanager
def opened(
    folder: Path,
    step: Callable[[str], None] = lambda _: None,
    *,
    skip: dict[str, tuple[str, ...]] | None = None,
    restore: bool = True,
) -> Iterator[TreeWriter]:
    """A writer of `folder/repository`, as a process that has just started has it."""
    (folder / "repository").mkdir(parents=True, exist_ok=True)
    manifest = Manifest(folder / "files.db", step)
    try:
        yield TreeWriter(Disk(folder / "repository", step), manifest, skip=skip, restore=restore)
    finally:
        manifest.close()


def saved(tree: TreeWriter, *artifacts: Artifact, removed: tuple[str, ...] = ()) -> dict[str, str]:
    """Stage and commit; answers with what was refused, expects that nothing fails after that."""
    staged = tree.stage(artifacts, removed)
    assert tree.commit(staged) == {}
    return staged.refused
