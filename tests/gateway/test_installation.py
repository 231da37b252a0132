"""A node's own files: which they are, and what would overwrite them is refused, there only."""

import asyncio
from pathlib import Path
from typing import cast

import msgspec
import pytest

from gatesync.artifacts import canonical
from gatesync.artifacts.base import BASE_FILES
from gatesync.artifacts.model import SUPER_TENANT, Artifact, Identity, Part
from gatesync.engines.memory import MemoryEngine
from gatesync.gateway.installation import (
    CONFIGS,
    BaseFile,
    Installation,
    Outline,
    guarded,
    read_installation,
)
from gatesync.publisher.fleet import ReceiptStatus
from tests.contracts.engine import deployable
from tests.contracts.saves import id_of, publish
from tests.gateway.cluster import HEARTBEAT, Cluster, WatchedEngine
from tests.gateway.virtual_time import in_virtual_time, until

pytestmark = pytest.mark.fast

FAULT = Part("sequence", "fault", "sequences/fault.xml", b"<sequence/>")
PACK = Installation(
    (
        BaseFile("registry.xml"),
        BaseFile("sequences/_block_api_handler_.xml", "sequence", "_api_blocked_sequence_"),
        BaseFile("sequences/fault.xml", "sequence", "fault"),
    )
)


def content(*parts: Part, tenant: str = SUPER_TENANT) -> bytes:
    identity = Identity(tenant, "api", "menu", "1.0.0")
    return canonical.encode(Artifact(identity, identity.default_api_id(), parts))


def outline(*parts: Part, tenant: str = SUPER_TENANT) -> Outline:
    return msgspec.json.decode(content(*parts, tenant=tenant), type=Outline)


def sequence(name: str, file: str) -> Part:
    return Part("sequence", name, f"sequences/{file}.xml", b"<sequence/>")


def write(home: Path, path: str, content: bytes) -> None:
    file = home / CONFIGS / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


# What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (FAULT, "sequences/fault.xml belongs"),
        (sequence("other", "fault"), "sequences/fault.xml belongs"),
        (sequence("fault", "other"), "sequence 'fault', of sequences/fault.xml, belongs"),
        (
            sequence("_api_blocked_sequence_", "mine"),
            "sequence '_api_blocked_sequence_', of sequences/_block_api_handler_.xml, belongs",
        ),
        (Part("local-entry", "registry", "registry.xml", b"x"), "registry.xml belongs"),
    ],
)
def test_what_would_take_the_place_of_a_base_file_is_refused(part: Part, reason: str) -> None:
    rest = "to this node's installation; publish it under another name and file"
    assert PACK.refusal(outline(part)) == f"{reason} {rest}"


def test_an_artifact_is_refused_for_any_of_its_parts_and_all_are_named() -> None:
    said = PACK.refusal(
        outline(sequence("mine", "mine"), FAULT, sequence("x", "_block_api_handler_"))
    )
    assert said.startswith(
        "sequences/_block_api_handler_.xml and sequences/fault.xml belong to this node's"
    )


@pytest.mark.parametrize(
    "part",
    [
        sequence("_block_api_handler_", "mine"),  # the base file of this name defines another
        sequence("main", "main"),  # of the pack, but it does not lie there
        Part("endpoint", "fault", "endpoints/fault.xml", b"<endpoint/>"),
        Part("local-entry", "", "local-entries/x.xml", b"<localEntry/>"),
    ],
)
def test_what_takes_no_base_files_place_is_deployed(part: Part) -> None:
    assert PACK.refusal(outline(part)) == ""


def test_other_tenants_have_their_own_files() -> None:
    assert PACK.refusal(outline(FAULT, tenant="a.example")) == ""


# What lies there ------------------------------------------------------------------------------


def test_base_files_are_found_by_their_place_and_named_by_their_root_element(
    tmp_path: Path,
) -> None:
    write(tmp_path, "registry.xml", b"<registry name='any'/>")
    write(tmp_path, "sequences/_block_api_handler_.xml", b"<?xml version='1.0'?>\n<s name='b'/>")
    write(tmp_path, "sequences/main.xml", b"<s><s name='inner'/></s>")
    write(tmp_path, "sequences/own.xml", b"<s name='own'/>")
    write(tmp_path, "inbound-endpoints/WebhookServer.xml", b"<e name='hooks'><broken")
    assert read_installation(tmp_path) == Installation(
        (
            BaseFile("inbound-endpoints/WebhookServer.xml", "inbound-endpoint", "hooks"),
            BaseFile("registry.xml"),
            BaseFile("sequences/_block_api_handler_.xml", "sequence", "b"),
            BaseFile("sequences/main.xml", "sequence", "main"),
        )
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\xff",
        b"no XML",
        b"<?xml version='1.0' encoding='no-such'?><s name='x'/>",
        b"<?xml version='1.0' encoding='shift_jis'?><s name='x'/>",
        b"<!DOCTYPE s SYSTEM 'file:///etc/passwd'><s/>",
    ],
)
def test_a_base_file_that_cannot_be_read_as_xml_goes_by_its_file_name(
    tmp_path: Path, content: bytes
) -> None:
    write(tmp_path, "sequences/fault.xml", content)
    assert read_installation(tmp_path).files == (
        BaseFile("sequences/fault.xml", "sequence", "fault"),
    )


def test_a_whole_pack_is_found_and_without_one_nothing_is(tmp_path: Path) -> None:
    assert read_installation(tmp_path) == Installation(())
    for path in BASE_FILES:
        write(tmp_path, path, b"")
    assert {file.path for file in read_installation(tmp_path).files} == BASE_FILES


def test_what_cannot_be_looked_at_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "repository").write_text("no folder")
    with pytest.raises(NotADirectoryError, match="repository/deployment"):
        read_installation(tmp_path)


# In front of an engine ------------------------------------------------------------------------


def test_without_base_files_nothing_stands_between_a_node_and_its_engine() -> None:
    engine = MemoryEngine()
    assert guarded(engine, Installation(())) is engine


async def test_the_engine_is_asked_for_everything_else() -> None:
    inner = WatchedEngine()
    inner.refuses[id_of("ham")] = "bad endpoint"
    engine = guarded(inner, PACK)
    good = deployable("bread", content(sequence("mine", "mine")))
    await inner.apply([deployable("olives")], [])
    refused = await engine.apply(
        [
            deployable("menu", content(FAULT)),
            good,
            deployable("ham", good.content),
            deployable("jam", good.content.replace(b".artifact/1", b".artifact/2")),
            deployable("tea", b"no artifact"),
        ],
        [id_of("olives")],
    )
    assert set(refused) == {id_of(name) for name in ("menu", "ham", "jam", "tea")}
    assert "sequences/fault.xml" in refused[id_of("menu")]
    assert refused[id_of("ham")] == "bad endpoint"
    assert "'gatesync.artifact/2'" in refused[id_of("jam")]
    for name in ("jam", "tea"):
        assert refused[id_of(name)].startswith("it cannot be told whether this would overwrite")
    assert list(engine.api_ids()) == [id_of("bread")]
    assert engine.content(id_of("bread")) == good.content
    assert set(inner.tries) == {id_of(name) for name in ("olives", "bread", "ham")}
    assert engine.name == inner.name


@pytest.mark.promise(4)
@in_virtual_time
async def test_it_fails_alone_and_is_reported_and_what_was_served_goes_on() -> None:
    first = content(sequence("menu", "menu"))
    taken = content(sequence("menu", "menu"), FAULT)
    renamed = content(sequence("menu", "menu"), sequence("f", "f"))
    async with Cluster() as cluster:
        engine = WatchedEngine()
        node = await cluster.start_node("n1", ["L"], cast(WatchedEngine, guarded(engine, PACK)))
        bare = await cluster.start_node("n2", ["L"])
        await cluster.publish("L", publish("menu", first))
        await until(lambda: node.serves("menu", first), within=2 * HEARTBEAT)

        await cluster.publish("L", [publish("menu", taken), publish("bread", first)])
        await until(lambda: bare.serves("menu", taken) and node.serves("bread"), within=1)
        await asyncio.sleep(0.1)  # of virtual time: their reports are on the way
        receipts = await cluster.receipts("L")
        assert receipts["n2"].status is ReceiptStatus.APPLIED
        assert receipts["n1"].status is ReceiptStatus.FAILED
        assert "sequences/fault.xml belongs to this node's installation" in receipts["n1"].reason
        await asyncio.sleep(60)
        assert node.serves("menu", first), "what was served before goes on serving"
        failure = node.informer.deployment.failed[id_of("menu")]
        assert 5 < failure.attempt < 20, "tried again with backoff, not in a tight loop"
        assert len(engine.tries[id_of("menu")]) == 1, "the engine never saw it"

        await cluster.publish("L", publish("menu", renamed))
        await until(lambda: node.serves("menu", renamed), within=0.1)
