"""A real engine serves the saved tree, and follows it while it is changed."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.gatesync import LABEL, Place, place, until
from tests.servers.synapse import SCAN_SECONDS, SynapseProcess, synapse_engine

CONFIGS = "repository/deployment/server/synapse-configs/default"
XMLNS = 'xmlns="http://ws.apache.org/ns/synapse"'
STATUS = '<property name="HTTP_SC" value="{}" scope="axis2"/><respond/>'
PATH = "/greeting/x"
PATIENCE = 2 * SCAN_SECONDS + 5

# What belongs to the installation: an unknown context is 404, a fault 500.
BASE = {
    "sequences/main.xml": f'<sequence {XMLNS} name="main">{STATUS.format(404)}</sequence>',
    "sequences/fault.xml": f'<sequence {XMLNS} name="fault">{STATUS.format(500)}</sequence>',
}


def sequence(name: str, answer: str) -> str:
    return (
        f'<sequence {XMLNS} name="{name}"><payloadFactory><format><said xmlns="">{answer}</said>'
        '</format></payloadFactory><property name="NO_ENTITY_BODY" scope="axis2" action="remove"/>'
        "</sequence>"
    )


def api(key: str) -> str:
    return (
        f'<api {XMLNS} name="Greeting" context="/greeting"><resource methods="GET" '
        f'url-mapping="/*"><inSequence><sequence key="{key}"/>'
        '<property name="messageType" value="application/xml" scope="axis2"/><respond/>'
        "</inSequence></resource></api>"
    )


def write(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """Write files by their paths below; answers with where they are."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return [folder / path for path in files]


@contextmanager
def asking(engine: SynapseProcess, path: str) -> Iterator[list[tuple[int, str]]]:
    """Requests one after the other for as long as the block runs; their answers."""
    answers: list[tuple[int, str]] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(0.004):
            answers.append(engine.get(path))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()


@pytest.mark.timeout(360)  # the first time Maven fetches the engine
@pytest.mark.promise(5)
def test_a_real_synapse_deploys_follows_and_removes_what_a_gateway_saves(tmp_path: Path) -> None:
    configs = tmp_path / CONFIGS
    base = write(configs, BASE)
    with (
        place(tmp_path, save=True) as cluster,
        synapse_engine(tmp_path / "engine", configs) as engine,
    ):
        cluster.role("up").start()
        assert engine.get(PATH)[0] == 404

        publish(cluster, tmp_path / "1", {"sequences/s1.xml": sequence("first", "one")}, "first")
        one, two = (200, "<said>one</said>"), (200, "<said>two</said>")
        until(lambda: engine.get(PATH) == one, "it is deployed", PATIENCE)

        with asking(engine, PATH) as answers:
            publish(
                cluster, tmp_path / "2", {"sequences/s2.xml": sequence("second", "two")}, "second"
            )
            until(lambda: two in answers[-1:], "the change is served", PATIENCE)
        assert set(answers) == {one, two}, engine.log.read_text()[-2000:]

        removed = cluster.run("remove", "Greeting", "--label", LABEL, "--wait", "all")
        assert removed.code == 0, removed.err
        until(lambda: engine.get(PATH)[0] == 404, "it is removed", PATIENCE)
        assert all(file.read_text() == BASE[str(file.relative_to(configs))] for file in base)


def publish(cluster: Place, folder: Path, shared: Mapping[str, str], key: str) -> None:
    """Publish shared sequences, and an API that goes through the one with this key."""
    files = write(folder, {**shared, "api/Greeting.xml": api(key)})
    done = cluster.run("publish", "--atomic", "--label", LABEL, "--wait", "all", *files)
    assert done.code == 0, done.err
