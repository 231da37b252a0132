"""SIGHUP at real processes: other labels and tenants, taken from a file that really changed."""

import json
import os
import signal
from pathlib import Path

from gatesync.artifacts import canonical
from tests.promises.pair import Pair, digest, pair
from tests.servers.gatesync import (
    LABEL,
    Place,
    document,
    place,
    publishing,
    sequence_xml,
    until,
)
from tests.trees.making import artifact, part

SEED = "[apim.sync_runtime_artifacts.gateway]\n"


def relabel(node: Place, *labels: str) -> None:
    """Edit the labels in the file."""
    lines = node.config.read_text().splitlines()
    changed = [
        f"gateway_labels = {json.dumps(labels)}" if line.startswith("gateway_labels") else line
        for line in lines
    ]
    assert changed != lines
    node.config.write_text("\n".join(changed) + "\n")


def hang_up(made: Pair, event: str = "the configuration was read again") -> dict[str, object]:
    """Send SIGHUP; answers with what the log says of it."""
    before = len(made.said(event))
    os.kill(made.gateway.pid, signal.SIGHUP)
    return made.gateway.wait_for(lambda: made.said(event)[before:], event)[0]  # type: ignore[no-any-return]


def test_other_labels_and_a_new_token_are_taken_and_exactly_what_differs_is_deployed(
    tmp_path: Path,
) -> None:
    with pair(tmp_path, labels=("Old", LABEL)) as made:
        made.publish(label="Old", moves="1", old="1")
        made.publish(stays="1")
        made.publish(label="New", moves="1", new="1")
        made.gateway.start()
        made.serves_soon(moves="1", old="1", stays="1")
        pid = made.gateway.pid

        relabel(made.node, "New", LABEL)
        made.control.give_token(made.node, "New", LABEL)
        assert hang_up(made)["labels"] == ["New", LABEL]
        made.serves_soon(moves="1", new="1", stays="1")
        made.gateway.wait_for(lambda: not made.health()["leaving"], "nothing is left behind")
        assert [each["label"] for each in made.health()["labels"]] == ["New", LABEL]
        made.publish(label="New", new="2")
        made.publish(label="Old", old="2")
        made.serves_soon(moves="1", new="2", stays="1")
        assert made.gateway.pid == pid

        made.gateway.stop()
        made.gateway.start()
        made.serves_soon(moves="1", new="2", stays="1")


def test_a_wrong_file_changes_nothing_and_the_log_says_what_is_wrong_and_where(
    tmp_path: Path,
) -> None:
    with pair(tmp_path) as made:
        made.publish(a="1")
        made.publish(label="New", b="1")
        made.gateway.start()
        made.serves_soon(a="1")
        good = made.node.config.read_text()
        wrong = "the configuration was not taken"

        relabel(made.node, "New")
        text = made.node.config.read_text().replace(SEED, f'{SEED}data_retrieval_mode = "no"\n')
        made.node.config.write_text(text)
        line = 1 + text.splitlines().index('data_retrieval_mode = "no"')
        reason = str(hang_up(made, wrong)["reason"])
        assert f"{made.node.config}:{line}: " in reason
        assert "apim.sync_runtime_artifacts.gateway.data_retrieval_mode" in reason
        made.node.config.write_text(good.replace("[gatesync]", "[gatesync"))
        assert str(made.node.config) in str(hang_up(made, wrong)["reason"])
        made.node.config.unlink()
        assert str(made.node.config) in str(hang_up(made, wrong)["reason"])
        assert made.serves(a="1")
        made.publish(a="2")
        made.serves_soon(a="2")

        made.node.config.write_text(good)
        assert hang_up(made)["labels"] == [LABEL]
        # A label that its token may not read: what was served goes on until the new one was read.
        relabel(made.node, "New")
        hang_up(made)
        made.gateway.wait_for(lambda: "New" in made.health()["store_error"], "it may not read it")
        assert made.health()["leaving"] == [LABEL]
        assert made.serves(a="2")
        made.control.give_token(made.node, "New")
        hang_up(made)
        made.serves_soon(b="1")


def test_other_tenants_are_loaded_and_let_go(tmp_path: Path) -> None:
    def policy(tenant: str) -> dict[str, object]:
        made = artifact(
            f"gold-{tenant}", part("executionplans/gold", tenant), tenant=tenant, kind="policy"
        )
        return json.loads(canonical.encode(made))  # type: ignore[no-any-return]

    def names(made: Pair) -> set[str]:
        return set(made.node.held())

    def load(made: Pair, tenants: str) -> None:
        made.node.config.write_text(good + f"[{SEED[1:-2]}.tenant_loading]\n{tenants}\n")
        hang_up(made)

    with pair(tmp_path) as made:
        good = made.node.config.read_text()
        made.publish_documents(*map(policy, ("east.example", "west.example", "carbon.super")))
        made.gateway.start()
        everyone = {"gold-east.example", "gold-west.example", "gold-carbon.super"}
        made.gateway.wait_for(lambda: names(made) == everyone, "every tenant is loaded")
        load(made, 'enable = true\ntenants = ["*", "!west.example"]')
        some = everyone - {"gold-west.example"}
        made.gateway.wait_for(lambda: names(made) == some, "one is let go")
        assert made.health()["skipped"] == 1
        load(made, 'enable = true\ntenants = ["west.example"]')
        some = everyone - {"gold-east.example"}  # the server's own tenant always is
        made.gateway.wait_for(lambda: names(made) == some, "one is loaded, and one let go")
        load(made, "enable = false")
        made.gateway.wait_for(lambda: names(made) == everyone, "every tenant is loaded again")


def test_all_in_one_process_its_token_follows_its_labels(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        up = here.role("up").start()
        for label, name in ((LABEL, "a"), ("New", "b")):
            body = publishing(document(name, sequence_xml(name)), label=label)
            assert here.ask("/v1/changes", method="POST", body=body).status == 200
        until(lambda: here.held() == {"a": digest("a", "hello")}, "a is served")
        token, pid = here.node_token(), up.pid
        relabel(here, "New")
        os.kill(pid, signal.SIGHUP)
        up.wait_for(lambda: here.held() == {"b": digest("b", "hello")}, "b is served instead")
        assert here.node_token() != token
        tokens = here.run("token", "list", "--json").json()
        known = [
            each["labels"] for each in tokens if each["role"] == "node" and not each["revoked_at"]
        ]
        assert known == [["New"]]
        assert here.run("verify").code == 0

        here.config.write_text(here.config.read_text().replace("[gatesync]", "[gatesync"))
        os.kill(pid, signal.SIGHUP)
        up.wait_for(lambda: "the configuration was not taken" in up.said(), "it says so")
        assert here.held() == {"b": digest("b", "hello")}
        assert up.alive
        assert up.pid == pid
