"""What lies at a node already, and is never overwritten: the base files of its installation.

    home/repository/deployment/server/synapse-configs/default/sequences/fault.xml ...

`read_installation` looks which of them there are; `guarded` puts that between a node and its
engine, which is not asked for what would take their place. Other nodes, which lack them, deploy it.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal
from xml.parsers import expat

import msgspec

from gatesync.artifacts.base import BASE_FILES
from gatesync.artifacts.model import KINDS, SUPER_TENANT
from gatesync.engines.engine import Deployable, Engine

__all__ = [
    "BaseFile",
    "GuardedEngine",
    "Installation",
    "Outline",
    "guarded",
    "read_installation",
]

CONFIGS: Final = "repository/deployment/server/synapse-configs/default"

_ROLES: Final = {folder: role for role, folder in KINDS.items()}


class BaseFile(msgspec.Struct, frozen=True):
    """A file of an installation: its place below `synapse-configs/default`, and what it defines.

    `registry.xml` and `synapse.xml` define nothing that has a role or a name.
    """

    path: str
    role: str = ""
    name: str = ""


class OutlinePart(msgspec.Struct, frozen=True):
    """A file of an artifact, without its content."""

    role: str
    name: str
    path: str


class Outline(msgspec.Struct, frozen=True):
    """What of an artifact's canonical form is looked at here; its contents are skipped."""

    format: Literal["gatesync.artifact/1"]
    tenant: str
    parts: tuple[OutlinePart, ...]


class Installation(msgspec.Struct, frozen=True):
    """The base files that lie at a node, all of the first tenant."""

    files: tuple[BaseFile, ...]

    def refusal(self, artifact: Outline) -> str:
        """Why this artifact cannot be deployed here, with what to do; empty if it can."""
        if artifact.tenant != SUPER_TENANT:
            return ""
        paths = {file.path for file in self.files}
        names = {(file.role, file.name): file.path for file in self.files if file.role}
        taken = [part.path for part in artifact.parts if part.path in paths]
        taken += [  # in two files the engine would find one name
            f"{part.role} {part.name!r}, of {names[part.role, part.name]},"
            for part in artifact.parts
            if part.path not in paths and (part.role, part.name) in names
        ]
        if not taken:
            return ""
        belongs = "belongs" if len(taken) == 1 else "belong"
        return (
            f"{' and '.join(taken)} {belongs} to this node's installation; "
            "publish it under another name and file"
        )


class GuardedEngine:
    """An engine that is not asked for what would overwrite the installation. See `Engine`."""

    def __init__(self, engine: Engine, installation: Installation) -> None:
        self.name = engine.name
        self._engine = engine
        self._installation = installation

    async def apply(
        self, deploy: Sequence[Deployable], undeploy: Collection[str]
    ) -> Mapping[str, str]:
        """See `Engine.apply`: refuses what the installation or the engine refuses."""
        refused = {
            each.entry.api_id: reason for each in deploy if (reason := self._refusal(each.content))
        }
        others = [each for each in deploy if each.entry.api_id not in refused]
        return refused | dict(await self._engine.apply(others, undeploy))

    def content(self, api_id: str) -> bytes | None:
        """See `Engine.content`."""
        return self._engine.content(api_id)

    def api_ids(self) -> Collection[str]:
        """See `Engine.api_ids`."""
        return self._engine.api_ids()

    def _refusal(self, content: bytes) -> str:
        try:
            return self._installation.refusal(_decoder.decode(content))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return f"it cannot be told whether this would overwrite base files: {error}"


_decoder: Final = msgspec.json.Decoder(Outline)


def guarded(engine: Engine, installation: Installation) -> Engine:
    """The engine, behind a guard where there is anything to guard: else contents are not read."""
    return GuardedEngine(engine, installation) if installation.files else engine


def read_installation(home: Path) -> Installation:
    """Look which base files lie below this folder. Nothing is ever written there.

    Raises:
        OSError: something there cannot be read.
    """
    found = []
    for path in sorted(BASE_FILES):
        try:
            content = (home / CONFIGS / path).read_bytes()
        except FileNotFoundError:
            continue
        folder, _, file = path.rpartition("/")
        if role := _ROLES.get(folder, ""):
            found.append(BaseFile(path, role, _name_in(content) or file.removesuffix(".xml")))
        else:
            found.append(BaseFile(path))
    return Installation(tuple(found))


def _name_in(content: bytes) -> str:
    """The name on the root element, which is not always the file's; empty if there is none.

    No more than this is read of the XML, so a gateway does without an XML library.
    """
    roots: list[dict[str, str]] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda _tag, attributes: roots.append(attributes)
    # What stands before a fault counts; an encoding that Python lacks is a fault too.
    with suppress(expat.ExpatError, LookupError, ValueError):
        parser.Parse(content, True)
    return roots[0].get("name", "") if roots else ""
