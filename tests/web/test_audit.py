"""Every change leaves a line in the audit log, whoever asked and whatever came of it."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatesync.publisher.audit import Event
from gatesync.publisher.audit_file import AuditError, AuditFile, verify_files
from tests.servers.gatesync import Answer, Done, Place, document, place, publishing, until
from tests.servers.small_disk import can_mount, small_disk

LABEL = "Production"


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A publisher alone, which the tests of this file share: each uses names of its own."""
    with place(tmp_path_factory.mktemp("audit")) as made:
        without_broker(made)
        made.role("publisher").start()
        yield made


def without_broker(made: Place, audit: str = "on") -> None:
    made.config.write_text(
        made.config.read_text().replace(
            "[gatesync.publisher]", f'[gatesync.publisher]\naudit = "{audit}"'
        )
        + "[apim.event_hub]\nenable = false\n"
    )


def publish(made: Place, *names: str, **more: Any) -> Answer:
    body = publishing(*(document(name) for name in names), label=LABEL)
    return made.ask("/v1/changes", method="POST", body=body, **more)


def entries(made: Place, **asked: str) -> list[dict[str, Any]]:
    said = "&".join(f"{key}={value}" for key, value in asked.items())
    answer = made.ask(f"/v1/audit?limit=1000&{said}")
    assert answer.status == 200, answer.body
    return list(answer.json()["entries"])


def test_a_change_is_written_with_who_where_what_and_its_revisions(publisher: Place) -> None:
    headers = {"Idempotency-Key": "first-time", "X-Forwarded-For": "192.0.2.1"}
    for outcome in ("done", "repeated"):
        body = publishing(document("first"), document("second"), label=LABEL, sender="ci@build-7")
        answer = publisher.ask("/v1/changes", method="POST", body=body, headers=headers)
        assert answer.status == 200, answer.body
        entry = entries(publisher, name="first")[-1]
        assert entry["outcome"] == outcome
        assert (entry["verb"], entry["labels"], entry["count"]) == ("publish", [LABEL], 2)
        token_id = publisher.operator.split("_")[1]
        assert entry["who"] == {"id": "operator", "role": "publish", "token": token_id}
        assert (entry["address"], entry["sender"]) == ("127.0.0.1", "ci@build-7")
        assert entry["key"] == "first-time"
        sets = answer.json()["change_sets"]
        assert [each["name"] for each in entry["artifacts"]] == ["first", "second"]
        assert [a["digest"] for a in entry["artifacts"]] == [
            each["changes"][0]["entry"]["digest"] for each in sets
        ]
        (revisions,) = entry["revisions"]
        assert revisions["count"] == 2
        assert revisions["last"] == sets[-1]["revision"]
        assert revisions["epoch"] == sets[0]["epoch"]


def test_a_removal_a_rollback_and_a_confirmation_are_told_apart(publisher: Place) -> None:
    for content in (b"<sequence xmlns='http://ws.apache.org/ns/synapse' name='turned'/>", None):
        body = publishing(document("turned", content), label=LABEL)
        assert publisher.ask("/v1/changes", method="POST", body=body).status == 200
    for command in (["rollback", "turned"], ["remove", "turned"]):
        assert publisher.run(*command, "--label", LABEL).code == 0
    body = {"label": LABEL}
    assert publisher.ask("/v1/labels/confirm", method="POST", body=body).status == 200
    verbs = [each["verb"] for each in entries(publisher, name="turned")]
    assert verbs == ["publish", "publish", "roll back", "remove"]
    confirmed = entries(publisher, name=LABEL)[-1]
    assert (confirmed["verb"], confirmed["outcome"]) == ("confirm", "done")
    assert confirmed["revisions"][0]["label"] == LABEL


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"labels": []}, "labels is empty"),
        ({"publish": [{"artifact": document("bad", b"<sequence")}]}, "not well-formed"),
        ({"publish": 7}, "publish"),
        ({"publish": [], "remove": ["nothing-of-this-id"]}, "nothing-of-this-id"),
    ],
)
def test_what_is_refused_is_written_with_its_reason(
    publisher: Place, changed: dict[str, Any], reason: str
) -> None:
    before = len(entries(publisher))
    body = publishing(document("bad"), label=LABEL) | changed
    answer = publisher.ask("/v1/changes", method="POST", body=body)
    assert 400 <= answer.status < 500
    (entry,) = entries(publisher)[before:]
    assert entry["outcome"] == "refused"
    assert reason in " ".join(entry["reasons"])
    assert entry["who"]["id"] == "operator"


def test_whoever_may_not_publish_is_written_down_and_so_is_a_wrong_token(publisher: Place) -> None:
    node = publisher.create_token("node", "curious", LABEL)
    assert publish(publisher, "mine", token=node).status == 403
    entry = entries(publisher, who="curious")[-1]
    assert (entry["verb"], entry["outcome"], entry["labels"]) == ("publish", "refused", [LABEL])
    assert entry["reasons"] == ["this token may not publish; one with the role 'publish' may"]

    wrong = f"gs_0123456789ab_{'W' * 43}"
    assert publisher.ask("/v1/labels", token=wrong).status == 401
    entry = entries(publisher)[-1]
    assert (entry["outcome"], entry["detail"]) == ("refused", "GET /v1/labels")
    assert entry["address"] == "127.0.0.1"
    assert entry["who"] == {}
    log = (publisher.data / "audit.jsonl").read_text()
    assert "WWWW" not in log
    assert publisher.operator.split("_", 2)[2] not in log


def test_a_node_may_not_read_the_log(publisher: Place) -> None:
    node = publisher.create_token("node", "reader", LABEL)
    for path in ("/v1/audit", "/v1/audit/verification"):
        assert publisher.ask(path, token=node).status == 403


def test_a_flood_of_wrong_tokens_fills_no_disk_and_is_counted(tmp_path: Path) -> None:
    with place(tmp_path) as made:
        without_broker(made)
        role = made.role("publisher").start()
        for _ in range(200):
            assert made.ask("/v1/labels", token="gs_wrong").status == 401
        assert publish(made, "afterwards").status == 200
        assert entries(made)[-1]["artifacts"][0]["name"] == "afterwards"
        assert role.stop() == 0
        lines = (made.data / "audit.jsonl").read_bytes().splitlines()
        assert len(lines) < 40
        assert json.loads(lines[-1])["detail"].endswith("more requests, from 1 addresses")
        assert not verify_files(made.data).fault


def test_the_command_reads_from_afar_and_from_the_folder_the_same(publisher: Place) -> None:
    assert publish(publisher, "told").status == 200
    afar = publisher.run("audit", "--name", "told", "--json").json()
    here = publisher.run("audit", "--name", "told", "--data", str(publisher.data), "--json").json()
    assert afar == here
    assert len(afar) == 1
    (line,) = publisher.run("audit", "--name", "told").out.splitlines()[1:]
    assert "operator" in line
    assert "sequence told in Production" in line
    assert publisher.run("audit", "--since", "2999-01-01").out.startswith("the audit log has no")
    assert publisher.run("audit", "--since", "yesterday").code == 2


def test_what_people_do_on_the_machine_is_written_with_their_account(publisher: Place) -> None:
    made = publisher.run("token", "create", "--id", "gw9", "--label", LABEL)
    assert made.code == 0, made.err
    assert publisher.run("token", "revoke", "gw9").code == 0
    assert publisher.run("token", "revoke", "gw10").code == 2
    created, revoked, refused = entries(publisher)[-3:]
    token_id = made.out.strip().split("_")[1]
    assert (created["verb"], revoked["verb"]) == ("create token", "revoke token")
    assert created["detail"] == revoked["detail"] == f"node token of gw9, {token_id}"
    assert refused["outcome"] == "failed"
    assert "there is no token of 'gw10'" in refused["reasons"][0]
    assert created["who"]["user"]
    assert made.out.strip().split("_", 2)[2] not in (publisher.data / "audit.jsonl").read_text()


def test_verify_names_the_first_line_that_does_not_fit(tmp_path: Path) -> None:
    with place(tmp_path) as made:
        without_broker(made)
        made.role("publisher").start()
        for number in range(3):
            assert publish(made, f"s{number}").status == 200
        path, folder = made.data / "audit.jsonl", str(made.data)
        whole = path.read_bytes()
        verified = made.run("audit", "--verify", "--json").json()
        head = f"{verified['head']['sequence']}:{verified['head']['hash']}"
        assert (verified["fault"], verified["entries"]) == ("", len(whole.splitlines()))

        path.write_bytes(whole.replace(b'"name":"s1"', b'"name":"s2"', 1))
        number = 1 + next(n for n, line in enumerate(whole.splitlines()) if b'"s1"' in line)
        done = made.run("audit", "--verify", "--data", folder)
        assert done.code == 1
        assert f"audit.jsonl:{number}: this line was changed" in done.err
        path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
        assert made.run("audit", "--verify").code == 1  # the publisher knows what it wrote
        assert not verify_files(made.data).fault  # the file alone cannot tell
        assert made.run("audit", "--verify", "--data", folder, "--head", head).code == 1


@pytest.mark.promise(3)
def test_every_change_that_was_answered_has_its_line_after_sigkill(tmp_path: Path) -> None:
    budget = float(os.environ.get("GATESYNC_TEST_BUDGET", "1"))
    with place(tmp_path) as made:
        without_broker(made)
        role = made.role("publisher").start()
        answered: list[str] = []
        ended = threading.Event()

        def keep_publishing(worker: int) -> None:
            number = 0
            while not ended.is_set():
                name = f"w{worker}n{number}"
                number += 1
                try:
                    if publish(made, name).status == 200:
                        answered.append(name)
                except OSError:
                    ended.wait(0.02)

        with ThreadPoolExecutor(6) as pool:
            for worker in range(6):
                pool.submit(keep_publishing, worker)
            try:
                for _ in range(max(2, int(2 * min(budget, 5)))):
                    enough = len(answered) + 30
                    until(partial(_longer, answered, enough), "changes are answered")
                    role.stop(signal.SIGKILL)
                    role.start()
            finally:
                ended.set()
        found = verify_files(made.data)
        assert found.fault == ""
        log = (made.data / "audit.jsonl").read_text().splitlines()
        told = {
            artifact["name"]
            for entry in map(json.loads, (line for line in log if line.endswith("}")))
            if entry["outcome"] == "done"
            for artifact in entry.get("artifacts", ())
        }
        assert set(answered) <= told
        assert len(answered) > 60


def _longer(names: list[str], count: int) -> bool:
    return len(names) > count


def create_token(made: Place) -> Done:
    return made.run("token", "create", "--id", "x", "--role", "read", "--config", made.config)


def only_readable(made: Place) -> None:
    """What nobody can write to, root included: a folder where the file should be."""
    path = made.data / "audit.jsonl"
    path.rename(made.data / "aside")
    path.mkdir()


def writable_again(made: Place) -> None:
    path = made.data / "audit.jsonl"
    path.rmdir()
    (made.data / "aside").rename(path)


@pytest.mark.parametrize("audit", ["on", "required"])
def test_a_log_that_cannot_be_written_is_told_and_stops_changes_only_where_it_is_required(
    tmp_path: Path, audit: str
) -> None:
    with place(tmp_path) as made:
        without_broker(made, audit)
        role = made.role("publisher").start()
        assert publish(made, "before").status == 200
        only_readable(made)
        answer = publish(made, "meanwhile")
        created = create_token(made)
        if audit == "required":
            assert (answer.status, answer.json()["code"]) == (503, "audit")
            assert created.code == 3
            assert "nothing was changed" in created.err
            assert len(made.heads()) == 1
            assert made.heads()[0]["revision"] == 1
        else:
            assert answer.status == 200
            assert created.code == 0
            assert "without an entry in the audit log" in created.err
        assert "audit.jsonl: cannot be" in made.ask("/health/ready").json()["audit"]
        assert "gatesync_publisher_audit_writing 0.0" in made.ask("/metrics").body.decode()
        assert "the audit log cannot be written" in role.said()
        writable_again(made)

        def told() -> bool:
            return any(e["artifacts"][0]["name"] == "meanwhile" for e in entries(made, name=LABEL))

        role.wait_for(told, "the entry that could not be written is")
        assert publish(made, "after").status == 200
        outcomes = [
            (each["artifacts"][0]["name"], each["outcome"]) for each in entries(made, name=LABEL)
        ]
        asked = [("before", "asked")] if audit == "required" else []
        assert outcomes[: len(asked) + 1] == [*asked, ("before", "done")]
        assert made.run("audit", "--verify").code == 0


def test_off_is_off(tmp_path: Path) -> None:
    with place(tmp_path) as made:
        without_broker(made, "off")
        made.role("publisher").start()
        assert publish(made, "quiet").status == 200
        assert create_token(made).code == 0
        assert not list(made.data.glob("audit*"))
        done = made.run("audit")
        assert (done.code, "keeps no audit log" in done.err) == (2, True)


@pytest.mark.skipif(not can_mount(), reason="only root can mount a small disk")
def test_a_full_disk_leaves_a_log_that_fits(tmp_path: Path) -> None:
    with small_disk() as disk:
        file = AuditFile(disk.folder / "data")
        large = Event(time=1, verb="publish", outcome="refused", reasons=("x" * 5_000,))
        file.append([large])
        written = 1

        def fill() -> None:
            nonlocal written
            while written < 1_000:
                file.append([large])
                written += 1

        with disk.full(), pytest.raises(AuditError, match="No space left"):
            fill()
        assert written > 1
        head = file.append([large])
        found = verify_files(disk.folder / "data", [head])
        assert found.fault == ""
        assert found.entries - len(found.mended) == written + 1
