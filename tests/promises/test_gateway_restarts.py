"""Promise 10: a gateway that is started while store, publisher and broker are all gone."""

import shutil
import signal
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
import pytest

from gatesync.artifacts.changes import Entry
from gatesync.gateway.cache_rows import entry_row
from tests.promises.pair import cache_of, digest, is_kept, pair
from tests.servers.gatesync import EXAMPLES, LABEL, until

pytestmark = pytest.mark.promise(10)

RETRIES: Final = "deployment_retry_duration = 300\n"
AT_ONCE: Final = {
    "cache first": {"seed": RETRIES, "ours": "start_from_cache = true"},
    "async": {"seed": f'{RETRIES}data_retrieval_mode = "async"'},
}


@pytest.mark.parametrize("how", AT_ONCE)
def test_it_serves_at_once_what_it_served_and_says_so_and_catches_up_by_itself(
    tmp_path: Path, how: str
) -> None:
    with pair(tmp_path, save=True, **AT_ONCE[how]) as made:
        made.publish(a="1", b="1")
        example = ("publish", EXAMPLES / "pizzashack", "-l", LABEL)
        assert made.control.run(*example).code == 0
        made.gateway.start()
        made.gateway.wait_for(lambda: made.health()["applied"] == 3, "all is served")
        held = made.node.held()
        files = sorted(made.node.folder.glob("repository/**/*.xml"))
        made.gateway.wait_for(lambda: is_kept(made, 3), "all is kept")
        made.gateway.stop(signal.SIGKILL if how == "async" else signal.SIGTERM)
        assert made.publisher.stop() == 0

        made.gateway.start()  # returns when it is ready
        pid, health = made.gateway.pid, made.health()
        assert (health["ready"], health["status"]) == (True, "stale")
        assert health["why"] == (
            f"label {LABEL!r}: not proved to be in step since this node started"
        )
        assert health["labels"][0]["stale"] is True
        made.gateway.wait_for(lambda: made.node.held() == held, "it serves what it served")
        assert sorted(made.node.folder.glob("repository/**/*.xml")) == files
        made.gateway.wait_for(lambda: made.health()["store_error"], "why it is alone is told")
        assert made.control.publisher in made.health()["store_error"]

        made.publisher.start()
        made.becomes("ready")
        made.publish(a="2")
        made.gateway.wait_for(lambda: made.node.held()["a"] == digest("a", "2"), "the edit")
        assert made.node.held() == held | {"a": digest("a", "2")}
        assert made.gateway.pid == pid


def test_by_default_it_is_ready_once_all_retries_are_used_up_and_not_before(
    tmp_path: Path,
) -> None:
    with pair(tmp_path, seed=RETRIES, ours="max_retry_count = 10") as made:
        made.publish(a="1", b="1")
        made.gateway.start()
        made.serves_soon(a="1", b="1")
        made.gateway.wait_for(lambda: is_kept(made, 2), "all is kept")
        made.gateway.stop()
        made.publisher.stop()

        made.gateway.start(wait=False)
        starting = made.becomes("starting")
        assert starting["ready"] is False
        assert made.node.held() == {}
        made.becomes("stale")
        assert made.serves(a="1", b="1")
        (without,) = made.said("started without everything; what is missing is tried on")
        (again,) = made.said("what was served before is served again")
        assert without["unread"] == [LABEL]
        assert again["artifacts"] == 2
        took = at(without) - at(made.said("gateway started")[-1])
        assert took >= 3.0, "it did not wait between its tries"

        made.publisher.start()
        made.becomes("ready")
        made.publish(a="2")
        made.serves_soon(a="2", b="1")


def at(line: dict[str, str]) -> float:
    """When that was said, in seconds."""
    return datetime.fromisoformat(line["timestamp"]).timestamp()


@pytest.mark.promise(8)
def test_what_is_damaged_or_tampered_with_in_its_cache_is_dropped_told_and_fetched_again(
    tmp_path: Path,
) -> None:
    ours = "start_from_cache = true"
    with pair(tmp_path, labels=("Shop", LABEL), seed=RETRIES, ours=ours) as made:
        made.publish(a="1", b="1")
        made.publish(label="Shop", c="1")
        made.gateway.start()
        made.serves_soon(a="1", b="1", c="1")
        made.gateway.wait_for(lambda: is_kept(made, 3), "all is kept")
        made.gateway.stop()
        made.publisher.stop()
        with cache_of(made) as db:
            key = bytes.fromhex(digest("a", "1"))
            forged = db.execute("SELECT body FROM content WHERE digest = ?", (key,)).fetchone()[0]
            forged = forged.replace(b'value=\\"1\\"', b'value=\\"7\\"')
            assert db.execute(
                "UPDATE content SET body = ? WHERE digest = ?", (forged, key)
            ).rowcount
            # With a checksum that comes out: somebody meant it.
            (body,) = db.execute("SELECT body FROM entry WHERE label = ?", (b"Shop",)).fetchone()
            entry = msgspec.msgpack.decode(body, type=Entry)
            entry = msgspec.structs.replace(entry, digest=digest("a", "1"))
            db.execute(
                "REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?)",
                entry_row("Shop", entry, retained=False),
            )

        made.gateway.start(wait=False)
        made.gateway.wait_for(lambda: made.health() and made.serves(b="1"), "b alone is served")
        damaged = made.said("something in the cache is damaged; it is fetched again")
        assert any("Shop" in each["what"] for each in damaged)
        assert any(digest("a", "1") in each["what"] for each in damaged)
        assert made.health()["cache"]["damaged"] >= 2
        shop, other = made.health()["labels"]
        assert (shop["revision"], other["waiting"]) == (0, 1)

        made.publisher.start()
        made.becomes("ready")
        made.serves_soon(a="1", b="1", c="1")
        until(lambda: is_kept(made, 3), "all is kept again")
        made.gateway.stop()
        made.publisher.stop()
        made.gateway.start()
        made.serves_soon(a="1", b="1", c="1")
        assert made.health()["cache"]["damaged"] == 0


@pytest.mark.promise(11)
def test_without_any_cache_it_starts_empty_and_says_what_it_lacks(tmp_path: Path) -> None:
    ours = "start_from_cache = true\nmax_retry_count = 10"
    with pair(tmp_path, seed=RETRIES, ours=ours) as made:
        made.publish(a="1")
        made.gateway.start()
        made.serves_soon(a="1")
        made.gateway.stop()
        made.publisher.stop()
        shutil.rmtree(made.node.data / "cache")

        made.gateway.start(wait=False)
        assert made.becomes("starting")["ready"] is False  # nothing at hand is no start
        stale = made.becomes("stale")
        assert made.node.held() == {}
        assert (stale["applied"], stale["labels"][0]["revision"]) == (0, 0)
        assert f"label {LABEL!r}: not proved" in stale["why"]
        (without,) = made.said("started without everything; what is missing is tried on")
        assert without["unread"] == [LABEL]

        made.publisher.start()
        made.becomes("ready")
        made.serves_soon(a="1")
