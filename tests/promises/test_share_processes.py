"""Publishers and a gateway as processes that meet in a share, with no broker."""

from pathlib import Path

import pytest

from gatesync.stores.share_source import ShareSource
from tests.servers.gatesync import Place, ask, document, place, publishing, until
from tests.servers.small_disk import can_mount, small_disk
from tests.servers.two_mounts import Mount, two_mounts
from tests.stores.share.making import saved_one, writer

TREE = "repository/deployment/server/synapse-configs/default/sequences"


def configure(node: Place, share: Path) -> None:
    with node.config.open("a") as config:
        config.write(
            "[apim.event_hub]\nenable = false\n"
            '[apim.sync_runtime_artifacts.publisher]\nartifact_saver = "SharedFileSystemSaver"\n'
            f'[apim.sync_runtime_artifacts.shared]\npath = "{share}"\nlabels = ["Shop"]\n'
            "check_interval = 100\nverify_interval = 500\n"
        )
    reads = 'artifact_retriever = "SharedFileSystemRetriever"\ndeployment_retry_duration = 200\n'
    text = node.config.read_text()
    node.config.write_text(text.replace("gateway_labels", f"{reads}gateway_labels", 1))


def publish(node: Place, *names: str) -> int:
    body = publishing(*(document(name) for name in names), label="Shop")
    return node.ask("/v1/changes", method="POST", body=body).status


def files(share: Path) -> set[str]:
    folder = share / TREE
    return (
        {each.stem for each in folder.iterdir() if each.suffix == ".xml"}
        if folder.exists()
        else set()
    )


def label_of(node: Place) -> dict[str, object]:
    answer = ask(node.gateway, "/v1/status", token=node.admin_token()).json()
    found: dict[str, object] = answer["labels"][0]
    return found


@pytest.mark.promise(6)
@pytest.mark.promise(10)
def test_two_publishers_and_a_gateway_on_two_mounts(tmp_path: Path) -> None:
    """Each publishes; the tree changes hands; a mount goes away, and nothing is undeployed."""
    with (
        two_mounts(tmp_path) as mounts,
        place(tmp_path / "p1", labels=["Shop"], node="p1") as one,
        place(tmp_path / "p2", labels=["Shop"], node="p2") as two,
    ):
        configure(one, mounts.one.folder)
        configure(two, mounts.two.folder)
        assert one.run("share", "create", "--config", str(one.config)).code == 0
        first = one.role("publisher").start()
        assert publish(one, "a") == 200
        until(lambda: files(mounts.exported) == {"a"}, "it is in the tree")
        assert files(mounts.two.folder) == {"a"}  # had it looked before, it would see it later

        second = two.role("publisher").start()
        two.give_token(two, "Shop")
        gateway = two.role("gateway").start()
        assert f"reads='share {mounts.two.folder}'" in gateway.said()
        until(lambda: set(two.held()) == {"a"}, "the gateway follows")
        assert publish(two, "b") == 200
        assert publish(one, "c") == 200
        until(lambda: set(two.held()) == {"a", "b", "c"}, "both may publish")
        until(lambda: files(mounts.exported) == {"a", "b", "c"}, "one keeps the tree")

        first.stop()
        (mounts.two.folder / TREE / "a.xml").write_text("edited")  # others' it sees 20 s later
        until(lambda: "keeps the share" in second.said(), "the other one keeps it")
        assert publish(two, "d") == 200
        until(lambda: files(mounts.exported) == {"a", "b", "c", "d"}, "it goes on with the tree")
        until(
            lambda: (mounts.exported / TREE / "a.xml").read_text() != "edited",
            "what people changed is put right",
        )
        until(lambda: set(two.held()) == {"a", "b", "c", "d"}, "the gateway has it, too")
        assert two.ask("/health/ready").json()["tree"] == "good, 4 artifacts"
        away_and_back(two, mounts.two)


def away_and_back(node: Place, mount: Mount) -> None:
    mount.unmount()
    body = publishing(document("e"), label="Shop")
    answer = node.ask("/v1/changes", method="POST", body=body)
    assert answer.status == 503, answer.body
    assert "is not there" in answer.reasons
    until(lambda: "is not there" in node.health().json()["store_error"], "the node says so")
    assert set(node.held()) == {"a", "b", "c", "d"}
    assert list(mount.folder.iterdir()) == []
    mount.end()
    mount.mount()
    until(lambda: publish(node, "e") == 200, "it can be published again")
    until(lambda: "e" in node.held(), "and is served")


@pytest.mark.promise(8)
def test_what_somebody_writes_into_the_share_without_a_signature_is_refused(
    tmp_path: Path,
) -> None:
    share = tmp_path / "share"
    share.mkdir()
    with place(tmp_path / "one", labels=["Shop"]) as node:
        configure(node, share)
        assert node.run("share", "create", "--config", str(node.config)).code == 0
        key = node.run("keys", "create", "--json").json()["public"]
        with node.config.open("a") as config:
            config.write(f"[[gatesync.trusted_keys]]\nkey = '{key}'\n")
        node.role("publisher").start()
        node.give_token(node, "Shop")
        assert publish(node, "a") == 200
        gateway = node.role("gateway").start()
        assert publish(node, "b") == 200
        until(lambda: set(node.held()) == {"a", "b"}, "what is signed is served")
        until(lambda: label_of(node)["proof_age_ms"] is not None, "a signed head is a proof")

        write_stolen(share)
        refused = "revision 3 of label 'Shop' is not signed by a key that this node trusts"
        until(lambda: refused in gateway.said(), "it is refused")
        assert set(node.held()) == {"a", "b"}


def write_stolen(share: Path) -> None:
    """As whoever may write into the share can do it, the whole protocol known."""
    import asyncio

    asyncio.run(saved_one(writer(ShareSource(path=share)), "Stolen"))


@pytest.mark.promise(3)
@pytest.mark.promise(6)
@pytest.mark.skipif(not can_mount(), reason="only root can mount a small disk")
def test_a_full_share_refuses_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with small_disk() as disk, place(tmp_path / "one", labels=["Shop"]) as node:
        share = disk.folder / "share"
        share.mkdir()
        configure(node, share)
        assert node.run("share", "create", "--config", str(node.config)).code == 0
        node.role("up").start()
        assert publish(node, "a") == 200
        until(lambda: set(node.held()) == {"a"}, "it is served")
        large = document(
            "large",
            b'<sequence xmlns="http://ws.apache.org/ns/synapse" name="large">'
            b"<!--" + b"x" * 500_000 + b"--></sequence>",
        )
        with disk.full():
            body = publishing(large, label="Shop")
            answer = node.ask("/v1/changes", method="POST", body=body)
            assert answer.status == 503
            assert "is full; nothing was saved" in answer.reasons
            assert set(node.held()) == {"a"}
        assert node.ask("/v1/changes", method="POST", body=body).status == 200
        until(lambda: set(node.held()) == {"a", "large"}, "there is room again")
        until(lambda: files(share) == {"a", "large"}, "in the tree, too")
