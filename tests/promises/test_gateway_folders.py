"""Gateways whose folders are somebody else's, or full: they say so, and serve where they can."""

import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.promises.pair import configure, is_kept, pair
from tests.servers.gatesync import place, run
from tests.servers.small_disk import can_mount, small_disk

needs_disk = pytest.mark.skipif(not can_mount(), reason="only root can mount a small file system")


@pytest.mark.parametrize("save", [False, True], ids=["memory", "saved"])
def test_a_second_one_on_the_same_data_ends_and_says_so_and_the_first_serves_on(
    tmp_path: Path, save: bool
) -> None:
    with (
        pair(tmp_path, save=save) as made,
        place(
            tmp_path / "second", node="gw2", publisher=made.control.publisher, save=save
        ) as other,
    ):
        made.publish(a="1")
        made.gateway.start()
        made.serves_soon(a="1")
        other.config.write_text(
            other.config.read_text().replace(
                "[gatesync]\n", f"[gatesync]\ndata = '{made.node.data}'\n"
            )
        )
        second = run(other.folder, "gateway", "--config", other.config)
        assert second.code == 2
        assert str(made.node.data) in second.err
        assert "another gateway" in second.err
        assert "data" in second.err.splitlines()[-1]
        made.publish(a="2")
        made.serves_soon(a="2")


@needs_disk
@pytest.mark.promise(10)
@pytest.mark.parametrize("save", [False, True], ids=["memory", "saved"])
def test_a_full_disk_keeps_nobody_from_serving_and_is_told_and_got_over(
    tmp_path: Path, save: bool
) -> None:
    """While it runs, and while it is started again on what lies there."""
    options = {"seed": "deployment_retry_duration = 300", "ours": "start_from_cache = true"}
    with (
        small_disk() as disk,
        pair(tmp_path, node=disk.folder / "node", save=save, **options) as made,
    ):
        made.publish(a="1", b="1")
        made.gateway.start()
        made.serves_soon(a="1", b="1")
        made.gateway.wait_for(lambda: is_kept(made, 2), "all is kept")
        large = "x" * 300_000
        with disk.full():
            made.publish(c=large)
            if save:  # what the disk does not take is refused, and nothing else is
                made.gateway.wait_for(lambda: made.status()["failed"], "c is refused")
                (reason,) = made.status()["failed"].values()
                assert "No space left on device" in reason
                assert made.serves(a="1", b="1")
            else:
                made.serves_soon(a="1", b="1", c=large)
                made.gateway.wait_for(lambda: made.health()["cache"]["error"], "it is told")
                assert "full" in made.health()["cache"]["error"]
            assert made.health()["ready"] is True

            made.gateway.stop(signal.SIGKILL)
            made.publisher.stop()
            made.gateway.start()
            made.serves_soon(a="1", b="1")
            made.publisher.start()
            made.becomes("ready")
            if not save:
                made.serves_soon(a="1", b="1", c=large)
        made.serves_soon(a="1", b="1", c=large)
        made.gateway.wait_for(lambda: not made.health()["cache"]["error"], "it is over")
        made.publish(a="2")
        made.serves_soon(a="2", b="1", c=large)


@needs_disk
def test_a_first_start_on_a_full_disk_ends_with_one_line_that_names_the_file(
    tmp_path: Path,
) -> None:
    with small_disk() as disk, place(disk.folder / "node") as node:
        configure(node)
        node.data.mkdir(mode=0o700)
        token = node.data / "gateway.token"
        token.touch(0o600)
        token.write_text("any")
        with disk.full():
            ballast = disk.folder / "ballast"
            with ballast.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
            done = run(node.folder, "gateway", "--config", node.config)
            assert done.code in {2, 3}, done.err
            said = [line for line in done.err.splitlines() if line.startswith("gatesync: ")]
            assert len(said) == 1, done.err
            assert "No space left on device" in said[0]
            assert str(node.data) in said[0]
            ballast.unlink()
        again = node.role("gateway").start(
            wait=False
        )  # nothing that it left half-done is in the way
        again.wait_for(lambda: "gateway started" in again.said(), "it starts")
