"""A process that is killed between any two steps: the next one ends with the exact tree."""

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatesync.artifacts.model import Artifact, Part
from gatesync.trees.disk import STAGED_PREFIX
from gatesync.trees.errors import TreeError
from gatesync.trees.writer import TreeWriter
from tests.stores.budget import BUDGET
from tests.trees.making import (
    Killed,
    Killer,
    artifact,
    files_in,
    files_wanted,
    opened,
    part,
    saved,
)

pytestmark = pytest.mark.fast

EXAMPLES: Final = max(20, round(60 * BUDGET))

FOREIGN: Final = {
    "deployment/server/synapse-configs/default/sequences/fault.xml": b"the pack's",
    "deployment/server/synapse-configs/default/sequences/mine.xml": b"somebody's",
    "deployment/server/synapse-configs/default/api/.gatesync-notes": b"hidden",
    "tenants/1/synapse-configs/default/api/other.xml": b"another tenant's",
    "conf/deployment.toml": b"",
}

State = Mapping[str, Artifact]


MEMORY: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""What a killed process wrote is not lost; what is lost with the power is not tried here."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


# States, and how one becomes the next -----------------------------------------------------------


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


def variants(name: str) -> st.SearchStrategy[Artifact | None]:
    return st.none() | st.builds(
        api,
        st.just(name),
        st.sampled_from(["1", "2"]),
        folder=st.sampled_from(["", "below/"]),
        own=st.booleans(),
    )


states = st.builds(
    state,
    variants("one"),
    variants("two"),
    st.sampled_from(["", "alone", "moved", "of two"]),
    st.sampled_from(["1", "2"]),
    st.booleans(),
)


class Move(NamedTuple):
    """The next state, the step at which the process is killed, and what is done about drift."""

    to: State
    killed_at: int | None
    restore: bool


moves = st.builds(Move, states, st.none() | st.integers(0, 60), st.booleans())


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


# Killed -----------------------------------------------------------------------------------------


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(moves, min_size=1, max_size=5))
def test_after_any_kill_the_next_start_ends_with_the_exact_tree(course: list[Move]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)
        lay_foreign_files(folder)
        before: State = {}
        for to, killed_at, restore in course:
            killer = Killer()
            try:
                with opened(folder, killer, restore=restore) as tree:
                    become(tree, {}, before)  # as after a restart: nothing is served yet
                    prune(tree, before)
                    check_exact(folder, before)
                    killer.at = None if killed_at is None else len(killer.steps) + killed_at
                    become(tree, before, to)
                    check_exact(folder, to)
            except Killed:
                check_whole(folder, before, to)
            else:
                killer.at = None
            before = to
        with opened(folder) as tree:
            become(tree, {}, before)
            prune(tree, before)
            check_exact(folder, before)
            assert tree.drift() == ([], "")
            assert tree.files == len(files_wanted(*before.values()))


BEFORE: Final = state(api("one", "1"), api("two", "1"), "alone", "1", True)
AFTER: Final = state(api("one", "2", folder="below/"), api("two", "1"), "of two", "2", False)


@pytest.mark.parametrize("restore", [True, False])
def test_killed_at_each_step_of_a_change_with_everything_in_it(folder: Path, restore: bool) -> None:
    at, finished = 0, False
    while not finished:
        home = folder / str(at)
        lay_foreign_files(home)
        with opened(home, restore=restore) as tree:
            become(tree, {}, BEFORE)
        killer = Killer(at)
        try:
            with opened(home, killer, restore=restore) as tree:
                become(tree, BEFORE, AFTER)
                finished = True
        except Killed:
            check_whole(home, BEFORE, AFTER)
        for wanted in (BEFORE, AFTER):  # it may come back with either of the two
            with opened(home, restore=restore) as tree:
                become(tree, {}, wanted)
                prune(tree, wanted)
                check_exact(home, wanted)
        at += 1
    assert at > 20


def test_killed_while_it_tidies_up_after_a_kill(folder: Path) -> None:
    for at in range(60):
        home = folder / str(at)
        lay_foreign_files(home)
        with pytest.raises(Killed), opened(home, Killer(12)) as tree:
            become(tree, {}, BEFORE)
        killer = Killer(at)
        try:
            with opened(home, killer) as tree:
                become(tree, {}, BEFORE)
        except Killed:
            check_whole(home, {}, BEFORE)
        with opened(home) as tree:
            become(tree, {}, BEFORE)
        check_exact(home, BEFORE)
        if not killer.dead:
            return
    pytest.fail("it did more steps than expected")


# Not killed, but the disk fails -----------------------------------------------------------------


class Failing:
    """Each step whose number is in `at` fails."""

    def __init__(self, *at: int) -> None:
        self.at = at
        self.steps = 0

    def __call__(self, what: str) -> None:
        self.steps += 1
        if self.steps - 1 in self.at:
            if what.startswith("manifest"):
                raise TreeError(f"{what}: database or disk is full")
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_whichever_step_fails_it_is_told_and_trying_again_ends_with_the_exact_tree(
    folder: Path,
) -> None:
    """What is refused changed nothing; what is not finished is named."""
    at, most = 0, 10**6
    while at < most:
        home = folder / str(at)
        lay_foreign_files(home)
        failing = Failing()
        with opened(home, failing) as tree:
            become(tree, {}, BEFORE)
            failing.at = (failing.steps + at,)
            removed = [each for each in BEFORE if each not in AFTER]
            told: dict[str, str] = {}
            try:
                staged = tree.stage(list(AFTER.values()), removed)
                told |= staged.refused
                unfinished = tree.commit(staged)
                told |= unfinished
            except TreeError as error:
                told["all"] = str(error)
            reached = failing.steps > failing.at[0]
            if not reached:
                most = at
            failing.at = ()
            check_whole(home, BEFORE, AFTER)
            tree.drift()
            become(tree, {}, AFTER)
            prune(tree, AFTER)
            check_exact(home, AFTER)
            for reason in told.values():
                assert "error" in reason.lower() or "full" in reason
        at += 1
    assert at > 20
