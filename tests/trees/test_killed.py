"""A process that is killed between any two steps: the next one ends with the exact tree."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatesync.artifacts.model import Artifact
from gatesync.trees.errors import TreeError
from tests.stores.budget import BUDGET
from tests.trees.conftest import MEMORY
from tests.trees.making import Killed, Killer, files_wanted, opened
from tests.trees.states import (
    State,
    api,
    become,
    check_exact,
    check_whole,
    lay_foreign_files,
    prune,
    state,
)

pytestmark = pytest.mark.fast

EXAMPLES: Final = max(20, round(60 * BUDGET))

# Courses of states -----------------------------------------------------------


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
