"""A gateway that trusts keys and reads the database itself, with no publisher in between."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers.gatesync import Place, ask, document, place, publishing, until

pytestmark = pytest.mark.promise(8)


REFUSED = "revision 3 of label 'Shop' is not signed by a key that this node trusts"


def is_proved(cluster: Place) -> bool:
    """Whether the node knows that it is in step: an unsigned head would be no proof."""
    answer = ask(cluster.gateway, "/v1/status", token=cluster.admin_token()).json()
    return answer["labels"][0]["proof_age_ms"] is not None


def publish(cluster: Place, name: str) -> None:
    body = publishing(document(name), label="Shop")
    assert cluster.ask("/v1/changes", method="POST", body=body).status == 200


def test_it_is_in_step_by_the_heads_that_publishers_keep_there(tmp_path: Path) -> None:
    """And what somebody writes there behind the publisher's back is not deployed."""
    with place(tmp_path, labels=["Shop"]) as cluster:
        key = cluster.run("keys", "create", "--json").json()["public"]
        with cluster.config.open("a") as config:
            config.write(
                "[apim.event_hub]\nenable = false\n"
                f"service_url = '{cluster.publisher}'\n"
                f"[[gatesync.trusted_keys]]\nkey = '{key}'\n"
                "[database.sync_runtime_artifacts_db]\ntype = 'sqlite'\n"
                f"url = 'jdbc:sqlite:{tmp_path}/store.db'\n"
            )
        publisher = cluster.role("publisher").start()
        cluster.give_token(cluster, "Shop")
        publish(cluster, "a")
        gateway = cluster.role("gateway").start()
        assert "reads=" in gateway.said()
        publish(cluster, "b")
        until(lambda: set(cluster.held()) == {"a", "b"}, "what was published is served")
        until(lambda: is_proved(cluster), "a signed head in the database is a proof")

        publisher.stop()
        with closing(sqlite3.connect(tmp_path / "store.db")) as database, database:
            database.execute(
                "UPDATE AM_GW_API_ARTIFACTS SET CONTEXT = '/stolen', REVISION = REVISION + 1"
            )
            database.execute("UPDATE GS_HEAD SET REVISION = REVISION + 1")
        until(lambda: REFUSED in gateway.said(), "it is refused")
        assert set(cluster.held()) == {"a", "b"}
