"""A real engine serves the saved tree, and follows it while it is changed."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.gatesync import until
from tests.servers.synapse import SCAN_SECONDS, SynapseProcess, synapse_engine

CONFIGS = "repository/deployment/server/synapse-configs/default"
XMLNS = 'xmlns="http://ws.apache.org/ns/synapse"'
STATUS = '<property name="HTTP_SC" value="{}" scope="axis2"/><respond/>'
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


def save(configs: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        part = configs / f"{path}.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text)
        part.replace(configs / path)


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


@pytest.mark.promise(5)
def test_a_real_synapse_deploys_follows_and_removes_what_is_saved(tmp_path: Path) -> None:
    configs = tmp_path / CONFIGS
    save(configs, BASE)
    with synapse_engine(tmp_path / "engine", configs) as engine:
        assert engine.get("/greeting/x")[0] == 404
        save(configs, {"sequences/first.xml": sequence("first", "one"), "api/g.xml": api("first")})
        one, two = (200, "<said>one</said>"), (200, "<said>two</said>")
        until(lambda: engine.get("/greeting/x") == one, "it is deployed", PATIENCE)

        with asking(engine, "/greeting/x") as answers:
            save(
                configs, {"sequences/2.xml": sequence("second", "two"), "api/g.xml": api("second")}
            )
            until(lambda: two in answers[-1:], "the change is served", PATIENCE)
        assert set(answers) == {one, two}, engine.log.read_text()[-2000:]

        (configs / "api/g.xml").unlink()
        (configs / "sequences/first.xml").unlink()
        (configs / "sequences/2.xml").unlink()
        until(lambda: engine.get("/greeting/x")[0] == 404, "it is removed", PATIENCE)
