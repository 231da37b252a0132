"""Whoever can send a gateway something, and has no key that it trusts, has it deploy nothing.

Against real processes. Each test is an attack; what is served must not change by it, and it must
be counted. The rules are tested one by one in tests/gateway/test_signed_changes.py.
"""

import asyncio
import base64
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest

from gatesync.artifacts.changes import Change, Head, Instruction
from gatesync.artifacts.digests import LabelDigest, digest_of
from gatesync.artifacts.signatures import Attestation, attestation_of
from gatesync.stores.sql import open_sql_store
from gatesync.stores.store import SaveOutcome
from gatesync.stores.wire import HeadsAnswer
from tests.attacks.signed_cluster import (
    OTHER,
    SHOP,
    THIEF,
    Gateway,
    Liar,
    SignedCluster,
    bare,
    event_of,
    evil,
    heartbeat,
    signed_cluster,
    too_old,
    trusting,
)
from tests.contracts.saves import asked, publish
from tests.gateway.edited_cache import Disk
from tests.servers.gatesync import until

pytestmark = pytest.mark.promise(8)
replace = msgspec.structs.replace


@pytest.fixture(scope="module")
def _liars() -> list[Liar]:
    return []


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, _liars: list[Liar]
) -> Iterator[SignedCluster]:
    with signed_cluster(tmp_path_factory.mktemp("signed"), _liars) as made:
        yield made


@pytest.fixture
def main(cluster: SignedCluster) -> Gateway:
    return cluster.gateways["main"]


@pytest.fixture
def lied(cluster: SignedCluster) -> Gateway:
    return cluster.gateways["lied"]


@pytest.fixture
def liar(cluster: SignedCluster, _liars: list[Liar]) -> Iterator[Liar]:
    """Honest before and after each test; whoever believes it is in step when that begins."""
    (found,) = _liars
    lied = cluster.gateways["lied"]
    until(
        lambda: all(
            lied.label(label)["revision"] == head_of(cluster, label).revision
            and lied.label(label)["waiting"] == 0
            for label in (SHOP, OTHER)
        ),
        "it has heard everything",
    )
    yield found
    found.honest()


def serves(gateway: Gateway, *names: str) -> bool:
    return set(gateway.held()) >= set(names)


def head_of(cluster: SignedCluster, label: str = SHOP) -> Head:
    answer = cluster.main.ask(f"/v1/heads?label={label}")
    return msgspec.json.decode(answer.body, type=HeadsAnswer).heads[0]


# By broker, and pushed.


@pytest.mark.parametrize("way", ["event", "push"])
def test_a_forged_change_by_broker_or_push(cluster: SignedCluster, main: Gateway, way: str) -> None:
    """Unsigned, by a key of one's own, a removal made of a publish, and of another label."""
    last = cluster.publish(f"of-{way}")
    elsewhere = cluster.publish(f"elsewhere-{way}", label=OTHER)
    until(lambda: serves(main, f"of-{way}", f"elsewhere-{way}"), "what is signed is served")
    entry = evil(last.changes[0].entry)
    head = head_of(cluster)
    next_one = replace(
        last,
        revision=last.revision + 1,
        previous=last.revision,
        changes=(Change(Instruction.PUBLISH, entry),),
        digest=head.digest.replace(entry.api_id, last.changes[0].entry.digest, entry.digest),
        signature=None,
    )
    removal = replace(
        next_one,
        changes=(Change(Instruction.REMOVE, last.changes[0].entry),),
        digest=head.digest.remove(entry.api_id, last.changes[0].entry.digest),
        signature=last.signature,
    )
    moved = replace(elsewhere, label=SHOP, revision=next_one.revision, previous=next_one.previous)
    for forged, why in (
        (next_one, "unsigned"),
        (THIEF.change_set(next_one), "key"),
        (removal, "altered"),
        (moved, "altered"),
    ):
        with main.refusing(way, why):
            message = event_of(forged, b"evil")
            if way == "event":
                cluster.announce(SHOP, message)
            else:
                answer = main.push(message)
                assert answer.status == 400, answer.body
                assert "this node does not take it" in answer.reasons


def test_a_replayed_change_is_old_news(cluster: SignedCluster, main: Gateway) -> None:
    first = cluster.publish("twice", "1")
    second = cluster.publish("twice", "2")
    digest = second.changes[0].entry.digest
    until(lambda: main.held().get("twice") == digest, "the second is served")
    refused, held = main.refused(), main.held()
    for change_set in (first, second, first):
        cluster.announce(SHOP, bare(change_set))
        assert main.push(bare(change_set)).json()["made"] == "known"
    assert main.held() == held
    assert main.refused() == refused


@pytest.mark.promise(11)
def test_a_key_for_another_label_and_a_forged_head(cluster: SignedCluster, main: Gateway) -> None:
    head = head_of(cluster)
    assert head.issue is not None
    later = replace(head, revision=head.revision + 1)
    redated = replace(head.issue, issued_at=head.issue.issued_at + 1_000)
    for forged, why in (
        (replace(later, issue=None), "unsigned"),
        (THIEF.head(later, head.issue.issued_at + 1_000), "key"),
        (
            replace(later, issue=redated),
            "altered",
        ),
        (replace(head_of(cluster, OTHER), label=SHOP, revision=later.revision), "altered"),
    ):
        with main.refusing("head", why):
            cluster.announce(SHOP, heartbeat(forged))


# Over HTTP, by somebody in the publisher's place.


def attestation_document(attestation: Attestation) -> Any:
    return msgspec.json.decode(msgspec.json.encode(attestation))


def entry_in(listing: Any, name: str) -> Any:
    (found,) = [each for each in listing if each["name"] == name]
    return found


def digest_with(head: Any, before: Any, after: str | None) -> Any:
    digest = LabelDigest(head["digest"]["total"], head["digest"]["count"])
    changed = digest.replace(before["api_id"], before["digest"], after)
    return {"total": changed.total, "count": changed.count}


def left_out(answer: Any) -> Any:
    """A whole list that adds up, without one."""
    page = answer["page"]
    gone = entry_in(page["entries"], "bread")
    page["entries"].remove(gone)
    page["head"] |= {"digest": digest_with(page["head"], gone, None), "issue": None}
    return answer


def swapped(answer: Any) -> Any:
    page = answer["page"]
    entry = entry_in(page["entries"], "bread")
    page["head"] |= {"digest": digest_with(page["head"], entry, digest_of(b"evil"))}
    page["head"]["issue"] = None
    entry |= {"digest": digest_of(b"evil"), "size": 4}
    return answer


@pytest.mark.promise(6)
@pytest.mark.parametrize("lie", [left_out, swapped])
def test_a_list_with_an_entry_left_out_or_swapped(
    cluster: SignedCluster, lied: Gateway, liar: Liar, lie: Any
) -> None:
    liar.lies |= {"/v1/changes": too_old, "/v1/manifest": lie}
    with lied.refusing("list", "altered"):
        cluster.publish(f"list-{lie.__name__}")
    assert "not what key" in lied.label()["untrusted"]
    liar.honest()
    until(lambda: serves(lied, f"list-{lie.__name__}", "bread"), "it goes on when it is told right")
    until(lambda: not lied.label()["untrusted"], "and says so")


@pytest.mark.promise(6)
def test_a_difference_that_removes_or_brings_what_nobody_signed(
    cluster: SignedCluster, lied: Gateway, liar: Liar
) -> None:
    def removing(answer: Any) -> Any:
        delta = answer["delta"]
        bread = bread_entry
        change = {"instruction": "Remove", "entry": bread}
        delta["changes"].append(change)
        delta["head"] |= {"digest": digest_with(delta["head"], bread, None), "issue": None}
        return answer

    (change,) = cluster.publish("bread", "again").changes
    bread_entry = msgspec.json.decode(msgspec.json.encode(change.entry))
    until(lambda: lied.held()["bread"] == change.entry.digest, "the newest is served")
    liar.lies["/v1/changes"] = removing
    with lied.refusing("delta", "altered"):
        cluster.publish("differing")

    forged = THIEF.change_set(replace(cluster.publish("more"), signature=None))

    def attesting(answer: Any) -> Any:
        answer["attestations"] = [
            attestation_document(attestation_of(replace(forged, revision=each["revision"])))
            for each in answer["attestations"]
        ]
        return answer

    liar.lies = {"/v1/attestations": attesting}
    with lied.refusing("delta", "key"):
        pass
    assert f"signed by key {THIEF.key_id}, which is not trusted" in lied.label()["untrusted"]
    liar.lies = {"/v1/attestations": lambda answer: answer | {"attestations": []}}
    with lied.refusing("delta", "unsigned"):
        pass
    liar.honest()
    until(lambda: serves(lied, "differing", "more"), "what is signed is served")


@pytest.mark.promise(11)
def test_a_head_of_another_label(cluster: SignedCluster, lied: Gateway, liar: Liar) -> None:
    def moved(answer: Any) -> Any:
        (shop,) = [each for each in answer["heads"] if each["label"] == SHOP]
        (other,) = [each for each in answer["heads"] if each["label"] == OTHER]
        answer["heads"] = [other, other | {"label": SHOP, "revision": shop["revision"] + 5}]
        return answer

    liar.lies["/v1/heads"] = moved
    with lied.refusing("head", "altered"):
        pass
    until(lambda: lied.label()["stale"], "without a proof the label is stale")
    liar.honest()
    until(lambda: lied.status()["status"] == "ready", "and it is not when it is told right")


@pytest.mark.promise(11)
def test_a_freeze_shows_as_stale_and_after_a_restart_too(
    cluster: SignedCluster, lied: Gateway, liar: Liar
) -> None:
    """Everything that was said once, signed as it was, again and again; and none of the news."""
    until(lambda: lied.status()["status"] == "ready", "it is in step")
    before = lied.held()
    liar.frozen = True
    cluster.publish("bread", "news of which it must not hear")
    until(lambda: lied.status()["status"] == "stale", "the proof grows old")
    assert lied.held() == before
    assert lied.role.stop() == 0
    lied.role.start()
    status = until(lambda: _status(lied), "it starts from its own disk")
    assert status["status"] == "stale"
    assert lied.held() == before
    assert all(each["proof_age_ms"] is None or each["stale"] for each in lied.status()["labels"])
    liar.honest()
    until(lambda: lied.status()["status"] == "ready", "it is in step when it is told right")
    until(lambda: lied.held()["bread"] != before["bread"], "and hears the news")


def _status(gateway: Gateway) -> Any:
    try:
        status = gateway.status()
    except OSError:
        return None
    return status if status["applied"] else None


@pytest.mark.promise(6)
def test_an_old_list(cluster: SignedCluster, lied: Gateway, liar: Liar) -> None:
    """Signed, whole and consistent, of the same history; only not of now."""
    kept: dict[str, Any] = {}

    def recorded(answer: Any) -> Any:
        return kept.setdefault("list", answer)

    def old_head(answer: Any) -> Any:
        head = kept["list"]["page"]["head"] | {"issue": None}
        answer["heads"] = [head if e["label"] == SHOP else e for e in answer["heads"]]
        return answer

    first = cluster.publish("old", "1")
    until(lambda: lied.held().get("old") == first.changes[0].entry.digest, "the first is served")
    liar.lies = {"/v1/changes": too_old, "/v1/manifest": recorded}
    second = cluster.publish("old", "2")
    until(lambda: lied.held().get("old") == second.changes[0].entry.digest, "listed")
    assert kept
    liar.honest()
    third = cluster.publish("old", "3")
    until(lambda: lied.held().get("old") == third.changes[0].entry.digest, "the newest is served")
    liar.lies = {"/v1/heads": old_head, "/v1/changes": too_old, "/v1/manifest": recorded}
    with lied.refusing("list", "old"):
        pass
    assert "it is old, or of another history" in lied.label()["untrusted"]


# In the database, under a gateway that reads it.


def test_a_database_that_somebody_writes_to(cluster: SignedCluster) -> None:
    direct = cluster.gateways["direct"]
    url = f"sqlite:///{cluster.main.data / 'artifacts.db'}"

    async def write() -> None:
        async with open_sql_store(url) as store:
            [outcome] = await store.save([asked(SHOP, publish("evil", "evil"))])
            assert isinstance(outcome, SaveOutcome)

    last = cluster.publish("till")
    until(lambda: serves(direct, "till"), "what is signed is served")
    with direct.refusing("delta", "unsigned"):
        asyncio.run(write())
    assert "gatesync keys sign" in direct.label()["untrusted"]
    rows = cluster.main.run("gateways", "--json").json()["gateways"]
    told = {
        node["node"]: label["untrusted"]
        for node in rows
        for label in node["labels"]
        if label["label"] == SHOP
    }
    assert all("is not signed by a key that this node trusts" in each for each in told.values())
    assert set(told) == {"main", "lied", "direct"}
    cluster.main.run("remove", "evil", "--label", SHOP)
    assert cluster.main.run("keys", "sign").code == 0
    for gateway in cluster.gateways.values():
        until(lambda g=gateway: not g.label()["untrusted"], "all is signed again")
        assert not {"evil"} & set(gateway.held())
    assert last.changes[0].entry.digest == direct.held()["till"]


# On the node's own disk.


def test_a_disk_that_somebody_wrote_to(cluster: SignedCluster, lied: Gateway, liar: Liar) -> None:
    until(lambda: lied.status()["status"] == "ready", "it is in step")
    held = lied.held()
    assert lied.role.stop() == 0
    disk = Disk(lied.where.data / "cache", SHOP)
    entries = disk.entries()
    (bread,) = [each for each in entries.values() if each.name == "bread"]
    forged = replace(bread, digest=disk.keep(b"evil"), size=4)
    disk.write(entries | {bread.api_id: forged})
    liar.up = False
    lied.role.start()
    until(lambda: lied.refused() == {("cache", "altered"): 1}, "it looks at its disk")
    until(lambda: lied.status()["applied"], "and serves what is left")
    assert lied.status()["applied"] == sum(each.startswith(("menu", "elsewhere")) for each in held)
    assert digest_of(b"evil") not in lied.held().values()
    liar.honest()
    until(lambda: lied.held() == held, "all is fetched again")


# Keys are changed; the last test, for it changes them for all.


@pytest.mark.promise(4)
def test_a_retired_key(cluster: SignedCluster, main: Gateway) -> None:
    last = cluster.publish("rotating")
    until(lambda: serves(main, "rotating"), "what is signed is served")
    held = main.held()
    plain = cluster.main.config.read_text().partition("[[gatesync.trusted_keys]]")[0]

    def trust(*keys: str) -> None:
        cluster.main.config.write_text(plain + trusting(*keys))
        said = main.role.said().count("other keys are trusted now")
        os.kill(main.role.pid, signal.SIGHUP)
        until(
            lambda: main.role.said().count("other keys are trusted now") > said, "SIGHUP is heard"
        )

    trust(cluster.key.text, cluster.second.text)
    assert cluster.main.run("keys", "use", cluster.second.key_id).code == 0
    until(lambda: _signed_by(cluster) == cluster.second.key_id, "the second key signs")
    trust(cluster.second.text)
    until(lambda: main.label()["untrusted"] or main.status()["failed"], "it shows")
    assert main.held() == held, "what is served serves on"
    with main.refusing("event", "key"):
        nothing = replace(last, revision=last.revision + 1_000)
        cluster.announce(SHOP, bare(replace(nothing, signature=last.signature)))
    assert cluster.main.run("keys", "sign").code == 0
    until(lambda: main.status()["status"] == "ready" and not main.status()["failed"], "signed anew")
    assert cluster.main.run("keys", "retire", cluster.key.key_id).code == 0
    assert main.held() == held


def _signed_by(cluster: SignedCluster) -> str:
    issue = head_of(cluster).issue
    return issue.signature.key_id if issue else ""


def test_no_private_key_is_anywhere_but_in_its_file(cluster: SignedCluster) -> None:
    folder = cluster.main.data / "keys"
    private = [msgspec.json.decode(each.read_bytes())["private"] for each in folder.iterdir()]
    assert len(private) == 2
    with closing(sqlite3.connect(cluster.main.data / "artifacts.db")) as db:
        dumped = "\n".join(db.iterdump())
    said = dumped + "".join(each.role.said() for each in cluster.gateways.values())
    for secret in private:
        assert secret not in said
        assert base64.b64decode(secret + "==", altchars=b"-_").hex() not in said.lower()
