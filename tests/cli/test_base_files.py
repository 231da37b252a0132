"""A pack laid under a gateway's home: recognised, and never overwritten (issue 3)."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.servers.gatesync import LABEL, Place, place, sequence_xml

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus" / "product-apim"
CONFIGS = "repository/deployment/server/synapse-configs/default"
WAITING = ("--label", LABEL, "--wait", "all", "--timeout", "2s")  # also for who refuses it


class Cluster(NamedTuple):
    """`gw1` has no pack; `gw2` has one, in the folder `wso2am`."""

    bare: Place
    node: Place
    log: Path


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """The second gateway is started by `start`, once its pack is laid."""
    with (
        place(tmp_path / "one") as bare,
        place(tmp_path / "two", node="gw2", publisher=bare.publisher) as node,
    ):
        bare.role("up").start()
        bare.give_token(node, LABEL)
        text = node.config.read_text()
        home = '[gatesync.gateway]\nhome = "wso2am"\n'
        node.config.write_text(text.replace("[gatesync.gateway]\n", home))
        yield Cluster(bare, node, node.folder / "gateway.log")


def start(cluster: Cluster) -> None:
    gateway = cluster.node.role("gateway").start()
    gateway.wait_for(lambda: "gw2" in cluster.bare.run("gateways").out, "gw2 is known")


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_real_pack_is_recognised_never_published_and_never_overwritten(
    cluster: Cluster, tmp_path: Path
) -> None:
    if not CORPUS.is_dir():
        pytest.skip("the corpus of real Synapse files is not beside the checkout: ../shared/corpus")
    bare, node, log = cluster
    pack = node.folder / "wso2am"
    shutil.copytree(CORPUS, pack, copy_function=shutil.copyfile)
    before = files_in(pack)
    start(cluster)
    assert "base_files=29" in log.read_text()

    tree = bare.run("publish", pack / "repository", *WAITING)
    assert tree.code == 2
    assert "nothing but files of the server's installation (29)" in tree.err
    alone = bare.run("publish", pack / CONFIGS / "sequences/fault.xml", *WAITING)
    assert alone.code == 2
    assert "belongs to the server's installation" in alone.err
    assert bare.heads() == []

    own = tmp_path / "fault.xml"
    own.write_bytes(sequence_xml("fault"))
    done = bare.run("publish", own, *WAITING)
    assert done.code == 1
    assert "gw1  applied" in done.out
    refused = next(line for line in done.out.splitlines() if line.startswith("  gw2  failed: "))
    assert "sequences/fault.xml belongs to this node's installation" in refused
    assert set(bare.held()) == {"fault"}
    assert node.held() == {}
    assert files_in(pack) == before


@pytest.mark.promise(4)
def test_an_artifact_that_would_overwrite_is_refused_there_and_nothing_else_is(
    cluster: Cluster, tmp_path: Path
) -> None:
    bare, node, log = cluster
    sequences = node.folder / "wso2am" / CONFIGS / "sequences"
    sequences.mkdir(parents=True)
    (sequences / "main.xml").write_bytes(sequence_xml("main", "the installation's"))
    (sequences / "_block_api_handler_.xml").write_bytes(sequence_xml("blocked"))
    (sequences / "notice.xml").write_bytes(sequence_xml("notice", "no base file"))
    before = files_in(node.folder / "wso2am")
    start(cluster)
    assert "base_files=2" in log.read_text()

    folder = tmp_path / "artifact"
    (folder / "sequences").mkdir(parents=True)
    (folder / "artifact.toml").write_text(
        'format = "gatesync.folder/1"\nkind = "sequence"\nname = "main"\n'
    )
    (folder / "sequences/main.xml").write_bytes(sequence_xml("main"))
    done = bare.run("publish", folder, *WAITING)
    assert done.code == 1, done.err
    assert "sequences/main.xml belongs to this node's installation" in done.out
    assert "publish it under another name and file" in done.out
    gateways = bare.run("gateways").out.splitlines()
    assert "failed" in next(line for line in gateways if line.startswith("gw2"))
    assert "in step" in next(line for line in gateways if line.startswith("gw1"))
    listed = bare.run("list", "--json").json()["artifacts"]
    assert [each["entry"]["name"] for each in listed] == ["main"]

    for name in ("blocked", "notice", "fault"):
        (tmp_path / f"{name}.xml").write_bytes(sequence_xml(name))
    for name in ("notice", "fault"):
        assert bare.run("publish", tmp_path / f"{name}.xml", *WAITING).code == 0
    done = bare.run("publish", tmp_path / "blocked.xml", *WAITING)
    assert done.code == 1
    assert "sequence 'blocked', of sequences/_block_api_handler_.xml, belongs" in done.out
    assert set(bare.held()) == {"main", "notice", "fault", "blocked"}
    assert set(node.held()) == {"notice", "fault"}

    assert bare.run("remove", "blocked", *WAITING).code == 0
    assert bare.run("remove", "main", *WAITING).code == 0
    assert set(node.held()) == {"notice", "fault"}
    assert files_in(node.folder / "wso2am") == before


def test_a_home_that_is_not_there_or_cannot_be_read_keeps_the_gateway_from_starting(
    cluster: Cluster,
) -> None:
    node = cluster.node
    missing = node.run("gateway", "--config", node.config)
    assert missing.code == 2
    home = node.folder / "wso2am"
    assert f"gatesync.gateway.home: there is no folder {home}; name the one" in missing.err

    home.mkdir()
    (home / "repository").write_text("no folder")
    unreadable = node.run("gateway", "--config", node.config)
    assert unreadable.code == 2
    assert f"{home}/repository/" in unreadable.err
    assert "cannot be read: Not a directory; a gateway must see" in unreadable.err
