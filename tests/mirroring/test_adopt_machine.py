"""Others edit the tree, people publish beside it, and the tree goes away: whose word stands?"""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from gatesync.mirroring.scanning import SourceGoneError
from tests.mirroring.test_adopting import LABEL, Place
from tests.mirroring.trees import sequence, sequence_file
from tests.stores.budget import BUDGET

pytestmark = pytest.mark.fast

names = st.sampled_from(["a", "b", "c"])
words = st.sampled_from(["<log/>", "<pop/>"])
ALWAYS: Final = "always"


class Whose(RuleBasedStateMachine):
    """Each edit is taken over before the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="gatesync-adopt-"))
        self.place = Place(self.folder)
        self.runner = asyncio.Runner()
        self.tree: dict[str, str] = {}
        self.label: dict[str, str] = {}
        self.adopted: dict[str, tuple[str, str]] = {}  # in the tree, and in the label then
        self.edit(ALWAYS, "<log/>")  # an empty tree is no beginning

    def teardown(self) -> None:
        self.runner.close()
        shutil.rmtree(self.folder)

    def settle(self) -> None:
        """What the tree says is done, and its removals are meant."""
        self.runner.run(self.place.settle())
        if self.place.adopter.status.waiting:
            number = self.runner.run(self.place.store.heads([LABEL]))[LABEL].revision
            self.runner.run(self.place.store.confirm(LABEL, f"{number} {len(self.tree)}"))
            self.runner.run(self.place.settle())
        for name, content in self.tree.items():
            if name not in self.adopted or self.adopted[name][0] != content:
                self.label[name] = content
                self.adopted[name] = (content, content)
        for name in self.adopted.keys() - self.tree.keys():
            if name in self.label and self.label[name] != self.adopted[name][1]:
                continue  # published otherwise since
            self.label.pop(name, None)
            del self.adopted[name]
        held = self.runner.run(self.place.held())
        assert held.keys() == self.label.keys()
        for name, content in self.label.items():
            said = self.runner.run(self.place.content(name))
            assert said == {f"sequences/{name}.xml": content}
        assert not self.place.adopter.status.waiting

    @rule(name=names, word=words)
    def edit(self, name: str, word: str) -> None:
        self.tree[name] = sequence(name, word)
        self.place.write(sequence_file(name), self.tree[name])
        self.settle()

    @rule(name=names)
    def delete(self, name: str) -> None:
        if self.tree.pop(name, None):
            self.place.remove(sequence_file(name))
        self.settle()

    @rule(name=names, word=words)
    def publish_by_hand(self, name: str, word: str) -> None:
        if self.label.get(name) != sequence(name, word):
            self.label[name] = sequence(name, word)
            self.runner.run(self.place.publish(self.label[name], f"{name}.xml"))
        self.settle()

    @rule(empty=st.booleans(), restart=st.booleans())
    def go_away(self, empty: bool, restart: bool) -> None:
        root = self.place.watched.root
        before = self.runner.run(self.place.held())
        root.rename(self.folder / "away")
        if restart:
            self.place.restart()
        if empty:
            root.mkdir()
            self.runner.run(self.place.settle())
            assert self.place.adopter.status.waiting
            root.rmdir()
        else:
            with pytest.raises(SourceGoneError):
                self.runner.run(self.place.settle())
        assert self.runner.run(self.place.held()) == before
        (self.folder / "away").rename(root)
        self.settle()

    @rule()
    def restart(self) -> None:
        self.place.restart()
        self.settle()


def test_the_label_follows_the_tree_and_people_and_never_an_absence() -> None:
    scaled: Any = settings(
        max_examples=max(5, round(25 * BUDGET)), stateful_step_count=12, deadline=None
    )
    run_state_machine_as_test(Whose, settings=scaled)
