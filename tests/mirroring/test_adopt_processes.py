"""A publisher and a gateway as one process, on a share whose tree others write."""

import shutil
from pathlib import Path

import pytest

from tests.mirroring.trees import (
    api,
    api_file,
    endpoint,
    endpoint_file,
    sequence,
    sequence_file,
    write,
)
from tests.servers.gatesync import Place, place, until

ENDPOINT = "Menu--v1.0.0_APIproductionEndpoint"


def configure(node: Place, share: Path) -> None:
    """As docs/adopting.md says."""
    page = (Path(__file__).parents[2] / "docs" / "adopting.md").read_text()
    shown = page.partition("```toml\n")[2].partition("```")[0]
    assert "adopt = true" in shown
    with node.config.open("a") as config:
        config.write(shown.replace("/mnt/apim", str(share), 1) + "check_interval = 100\n")


def adopted(node: Place) -> str:
    return str(node.ask("/health/ready").json()["adopted"])


@pytest.mark.promise(6)
def test_what_others_write_into_a_share_is_served(tmp_path: Path) -> None:
    """Published, changed and removed; a fault is told; an empty folder removes nothing."""
    share = tmp_path / "share"
    tree = share / "repository"
    share.mkdir()
    write(tree, api_file("Menu"), api("Menu"))
    write(tree, endpoint_file(ENDPOINT), endpoint(ENDPOINT))
    for name in ("a", "b", "c"):
        write(tree, sequence_file(name), sequence(name))
    with place(tmp_path / "node", labels=["Shop"]) as node:
        configure(node, share)
        assert node.run("share", "create", "--config", str(node.config)).code == 0
        process = node.role("up").start()
        until(lambda: set(node.held()) == {"Menu", "a", "b", "c"}, "the tree is served")
        before = node.held()

        write(tree, sequence_file("b"), "<sequence name='b'>\n<log></sequence>")
        write(tree, sequence_file("c"), sequence("c", "<log/>"))
        (tree / sequence_file("a")).unlink()
        until(lambda: node.held()["c"] != before["c"], "what was changed is served")
        until(lambda: "a" not in node.held(), "what was removed is gone")
        assert node.held()["b"] == before["b"]
        until(lambda: f"{sequence_file('b')}:2: not well-formed XML" in adopted(node), "it is told")
        assert "not taken over" in process.said()
        entries = node.ask("/v1/audit").json()["entries"]
        taken = [each for each in entries if each["verb"] == "take over"]
        assert {e["name"] for each in taken for e in each["artifacts"]} >= {"Menu", "a", "c"}

        served = node.held()
        share.rename(tmp_path / "away")
        share.mkdir()
        until(lambda: "holds no file gatesync.share" in adopted(node), "it is missed")
        share.rmdir()
        (tmp_path / "away").rename(share)
        tree.rename(tmp_path / "away")
        tree.mkdir()
        until(lambda: "gatesync labels confirm" in adopted(node), "an empty folder proves nothing")
        assert node.held() == served
        shutil.rmtree(tree)
        (tmp_path / "away").rename(tree)
        until(lambda: "confirm" not in adopted(node), "the tree is there again")
        assert node.held() == served
        process.stop()
