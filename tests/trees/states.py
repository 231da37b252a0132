"""States of a tree, how one becomes the next, and what must hold in every moment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gatesync.artifacts.model import Artifact, Part
from gatesync.trees.disk import STAGED_PREFIX
from gatesync.trees.writer import TreeWriter
from tests.trees.making import artifact, files_in, files_wanted, part, saved

FOREIGN: Final = {
    "deployment/server/synapse-configs/default/sequences/fault.xml": b"the pack's",
    "deployment/server/synapse-configs/default/sequences/mine.xml": b"somebody's",
    "deployment/server/synapse-configs/default/api/.gatesync-notes": b"hidden",
    "tenants/1/synapse-configs/default/api/other.xml": b"another tenant's",
    "conf/deployment.toml": b"",
}

State = Mapping[str, Artifact]


def api(
    name: str, text: str, *, folder: str = "", own: bool = True, shared: bool = False
) -> Artifact:
    """Variants differ in bytes, in where a sequence stands, and in which files there are."""
    parts = [part(f"api/{name}.xml", text)]
    if own:
        parts.append(part(f"sequences/{folder}{name}--In.xml", text, f"{name}--In"))
        parts.append(part(f"endpoints/{name}_EP.xml", "same"))
    if shared:  # a path that is somebody else's at other times
        parts.append(part("sequences/shared.xml", text, "shared"))
    return artifact(name, *parts)


def alone(text: str, file: str = "shared") -> Artifact:
    return artifact("shared", part(f"sequences/{file}.xml", text, "shared"), kind="sequence")


def state(
    one: Artifact | None, two: Artifact | None, shared: str, text: str, policy: bool
) -> dict[str, Artifact]:
    made = [one, two]
    if shared == "alone":
        made.append(alone(text))
    elif shared == "moved":
        made.append(alone(text, "elsewhere/shared"))
    elif shared == "of two" and two is not None:
        made[1] = api("two", text, shared=True)
    if policy:
        part_of = Part("policy", "gold", "executionplans/gold", text.encode())
        made.append(artifact("gold", part_of, kind="policy", tenant="t1"))
    return {each.api_id: each for each in made if each is not None}


def become(tree: TreeWriter, before: State, after: State) -> None:
    """Deploy what differs, and what was refused once more: it waited for a path."""
    changed = [each for api_id, each in after.items() if before.get(api_id) != each]
    served = set(before)
    staged = tree.stage(
        changed, [each for each in before if each not in after], served.__contains__
    )
    assert tree.commit(staged) == {}
    again = [after[api_id] for api_id in staged.refused]
    staged = tree.stage(again, (), served.__contains__)
    assert staged.refused == {}
    assert tree.commit(staged) == {}


def prune(tree: TreeWriter, wanted: State) -> None:
    saved(tree, removed=tuple(tree.api_ids() - wanted.keys()))


def lay_foreign_files(folder: Path) -> None:
    for path, content in FOREIGN.items():
        file = folder / "repository" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def check_whole(folder: Path, *known: State) -> None:
    """Whoever looks now finds whole files only, and no API without what it names."""
    found = files_in(folder / "repository")
    assert {path: found.pop(path) for path in FOREIGN} == FOREIGN
    seen = {path: body for path, body in found.items() if STAGED_PREFIX not in path}
    versions = [made for each in known for made in each.values()]
    parts = {path: each for made in versions for path, each in parts_of(made).items()}
    contents = {each.content for made in versions for each in made.parts}
    assert seen.keys() <= parts.keys()
    assert contents.issuperset(seen.values())
    there = {called(parts[path]) for path in seen}  # wherever it stands: one that moves is there
    for path, body in seen.items():
        if parts[path].role == "api":
            assert any(
                parts_of(made)[path].content == body and set(map(called, made.parts)) <= there
                for made in versions
                if path in parts_of(made)
            ), (path, seen.keys())


def parts_of(made: Artifact) -> dict[str, Part]:
    return dict(zip(files_wanted(made), made.parts, strict=True))


def called(each: Part) -> tuple[str, str]:
    return each.role, each.name


def check_exact(folder: Path, wanted: State) -> None:
    found = files_in(folder / "repository")
    assert found == FOREIGN | files_wanted(*wanted.values())
