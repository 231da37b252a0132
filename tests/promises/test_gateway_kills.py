"""Promise 10 on a node's disk: killed at random moments, it ends in step, file for file."""

import asyncio
import json
import os
import random
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from gatesync.artifacts import canonical
from gatesync.artifacts.model import Artifact
from gatesync.stores.http import HttpRetriever
from gatesync.stores.store import read_manifest
from gatesync.trees.disk import STAGED_PREFIX
from gatesync.web.client import open_client
from tests.promises.editing import Editor
from tests.servers.gatesync import LABEL, Place, Role, ask, place, publishing, sequence_xml
from tests.stores.budget import BUDGET
from tests.trees.making import CONFIGS, artifact, files_wanted, part

KILLS: Final = max(3, round(10 * BUDGET))
SECONDS_EACH: Final = 10  # at the most, on a busy machine
CORPUS: Final = Path(__file__).resolve().parents[3] / "shared" / "corpus" / "product-apim"
HIDDEN: Final = f"{CONFIGS}/endpoints/.gatesync-notes"
FOREIGN: Final = {
    f"{CONFIGS}/api/mine.xml": b"<api/>",
    f"{CONFIGS}/sequences/foreign.xml": b"somebody else's",
    f"{CONFIGS}/sequences/skipped.xml": b"in the skip_list",
    f"{CONFIGS}/sequences/below/mine.xml": b"in a folder that is ours, too",
    f"{CONFIGS}/endpoints/notes.txt": b"no XML at all",
    HIDDEN: b"a hidden file with a name like ours",
    "deployment/server/carbonapps/shop_1.0.0.car": b"PK\x03\x04",
    "tenants/t1/executionplans/mine": b"of a tenant",
}
REFUSED: Final = {  # by the node, which must not overwrite what stands there
    "skipped": "sequences/skipped.xml: is in this node's skip_list",
    "foreign": "gatesync did not write this file",
    "through": "sequences/linked",
}


class Fact(NamedTuple):
    """What shows that nobody touched a file; what a link says is its content."""

    mode: int
    size: int
    mtime_ns: int
    inode: int
    content: bytes


def facts_of(folder: Path) -> dict[str, Fact]:
    """Every file and link below a folder, hidden ones too."""
    found = {}
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*names, *links):
            path = Path(parent, name)
            about = path.lstat()
            is_link = stat.S_ISLNK(about.st_mode)
            content = os.fsencode(path.readlink()) if is_link else path.read_bytes()
            fact = Fact(about.st_mode, about.st_size, about.st_mtime_ns, about.st_ino, content)
            found[path.relative_to(folder).as_posix()] = fact
    return found


class Node:
    """A gateway with a pack and other people's files in its home.

    Attributes:
        outside: a folder that a link in its tree leads to.
    """

    def __init__(self, folder: Path, publisher: Place) -> None:
        self.outside = folder / "outside"
        self.outside.mkdir(parents=True)
        self.place = Place(folder / "node", publisher=publisher.publisher, save=True)
        text = self.place.config.read_text()
        text = text.replace("[gatesync.gateway]\n", '[gatesync.gateway]\nhome = "wso2am"\n')
        text = text.replace(
            "[gatesync]\n",
            "deployment_retry_duration = 100\n"
            "[apim.sync_runtime_artifacts.gateway.skip_list]\nsequences = ['skipped.xml']\n"
            "[gatesync]\n",
        )
        self.place.config.write_text(text)
        publisher.give_token(self.place, LABEL)
        self.repository = self.place.folder / "wso2am" / "repository"
        if CORPUS.is_dir():
            shutil.copytree(CORPUS, self.repository.parent, copy_function=shutil.copyfile)
        for path, content in FOREIGN.items():
            (self.repository / path).parent.mkdir(parents=True, exist_ok=True)
            (self.repository / path).write_bytes(content)
        sequences = self.repository / CONFIGS / "sequences"
        (sequences / "link.xml").symlink_to(sequences / "foreign.xml")
        (sequences / "dangling.xml").symlink_to("nowhere.xml")
        (sequences / "linked").symlink_to(self.outside)
        self.foreign = facts_of(self.repository)
        self.role: Role = self.place.role("gateway")

    def status(self) -> Any:
        """What it says of itself; None where it does not answer yet."""
        try:
            answer = ask(self.place.gateway, "/v1/status", token=self.place.admin_token())
        except OSError:
            return None
        return answer.json() if answer.status == 200 else None

    def in_step_with(self, revision: int) -> bool:
        """Whether it has tried everything up to that, and refuses what it must, and no more."""
        if (status := self.status()) is None:
            return False
        (label,) = status["labels"]
        tried = label["revision"] == label["applied_revision"] == revision
        return bool(tried and status["waiting"] == 0 and status["failed"].keys() == REFUSED_IDS)

    def unfinished(self) -> int:
        """How many files it staged and neither put in their places nor took back."""
        return sum(
            path.is_file() and path != self.repository / HIDDEN
            for path in self.repository.rglob(f"{STAGED_PREFIX}*")
        )


def made_refused(name: str) -> Artifact:
    """A sequence that the node must refuse."""
    below = "linked/" if name == "through" else ""
    file = part(f"sequences/{below}{name}.xml", sequence_xml(name), name)
    return artifact(name, file, kind="sequence")


REFUSED_IDS: Final = {made_refused(name).api_id for name in REFUSED}


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[Place, Node]]:
    """A publisher with its broker, and a node that is not started yet."""
    with place(folder / "control") as control:
        control.role("traffic-manager").start()
        control.role("publisher").start()
        node = Node(folder, control)
        try:
            yield control, node
        finally:
            node.place.end()


async def stored(publisher: Place) -> dict[str, Artifact]:
    """By api_id, what the store says that the label holds, made of canonical forms."""
    async with open_client(publisher.publisher, publisher.operator) as client:
        retriever = HttpRetriever(client)
        _, entries = await read_manifest(retriever, LABEL)
        contents = await retriever.contents([each.digest for each in entries.values()])
    return {each.api_id: canonical.decode(contents[each.digest]) for each in entries.values()}


def check(control: Place, node: Node, editor: Editor) -> float:
    """In step, and file for file what the store says; answers with the seconds that took."""
    begun = time.monotonic()
    (head,) = control.heads()
    what = f"it is in step with revision {head['revision']}"
    node.role.wait_for(lambda: node.in_step_with(head["revision"]), what)
    took = time.monotonic() - begun
    wanted = asyncio.run(stored(control))
    assert {k: v for k, v in wanted.items() if k not in REFUSED_IDS} == editor.wanted
    found = facts_of(node.repository)
    assert {path: found.pop(path, None) for path in node.foreign} == node.foreign
    assert {path: fact.content for path, fact in found.items()} == files_wanted(
        *editor.wanted.values()
    )
    assert list(node.outside.iterdir()) == []
    names = {each.identity.name: each for each in editor.wanted.values()}
    assert node.place.held().keys() == names.keys()
    return took


@pytest.mark.promise(10)
@pytest.mark.timeout(60 + SECONDS_EACH * KILLS)
def test_killed_at_random_moments_it_ends_in_step_file_for_file_and_touches_no_other(
    tmp_path: Path,
) -> None:
    chance = random.Random(5)
    took, cut_short = [], 0
    with cluster(tmp_path) as (control, node):
        refused = [json.loads(canonical.encode(made_refused(name))) for name in REFUSED]
        assert control.ask("/v1/changes", method="POST", body=publishing(*refused)).status == 200
        node.role.start(wait=False)
        editor = Editor(control, "kills")
        begun = time.monotonic()
        with editor.at_work():
            for number in range(KILLS):
                if number % 3:  # every third kill comes while it starts
                    time.sleep(chance.uniform(0.0, 0.3))
                    with editor.at_rest():
                        took.append(check(control, node, editor))
                time.sleep(chance.uniform(0.0, 1.0))
                editor.check()
                node.role.stop(signal.SIGKILL)
                cut_short += node.unfinished() > 0
                node.role.start(wait=False)
        took.append(check(control, node, editor))
        seconds = time.monotonic() - begun
        assert set(node.status()["failed"]) == REFUSED_IDS
        reasons = "\n".join(node.status()["failed"].values())
        assert [said for said in REFUSED.values() if said not in reasons] == []
        print(
            f"{KILLS} kills in {seconds:.0f} s, {cut_short} with files half-way; "
            f"{editor.changes} changes, the slowest took {editor.slowest:.2f} s; "
            f"in step after {max(took):.2f} s at most"
        )
        assert editor.changes > KILLS * 5
        assert "Traceback" not in node.role.said()
