"""gatesync keys, against real processes: making, using, retiring, and signing anew what stands."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gatesync.artifacts.changes import Head
from gatesync.artifacts.signatures import Trust, TrustedKey
from gatesync.stores.wire import AttestationsAnswer, HeadsAnswer
from tests.servers.gatesync import Place, document, place, publishing, run, until

pytestmark = pytest.mark.promise(8)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Place]:
    """A publisher with three artifacts in a label, and an empty label that was used."""
    with place(tmp_path, labels=["Shop"]) as made:
        with made.config.open("a") as config:
            config.write("[apim.event_hub]\nenable = false\n")
        made.role("publisher").start()
        for name in ("a", "b", "c"):
            assert post(made, "/v1/changes", publishing(document(name), label="Shop"))
        change = post(made, "/v1/changes", publishing(document("gone"), label="Empty"))
        api_id = change["change_sets"][0]["changes"][0]["entry"]["api_id"]
        assert post(made, "/v1/changes", {"labels": ["Empty"], "remove": [api_id]})
        yield made


def post(cluster: Place, path: str, body: object) -> dict[str, object]:
    answer = cluster.ask(path, method="POST", body=body)
    assert answer.status == 200, answer.body
    found: dict[str, object] = answer.json()
    return found


def create(cluster: Place) -> TrustedKey:
    done = cluster.run("keys", "create", "--json")
    assert done.code == 0, done.err
    key = TrustedKey.parse(done.json()["public"])
    assert key.key_id == done.json()["key_id"]
    return key


def head_of(cluster: Place, label: str) -> Head:
    answer = cluster.ask(f"/v1/heads?label={label}")
    return msgspec.json.decode(answer.body, type=HeadsAnswer).heads[0]


def signed_by(cluster: Place, label: str, trust: Trust) -> dict[int, str]:
    """Which key signed each revision of which the publisher keeps an attestation, verified."""
    answer = cluster.ask(f"/v1/attestations?label={label}")
    head = head_of(cluster, label)
    found = {}
    for each in msgspec.json.decode(answer.body, type=AttestationsAnswer).attestations:
        trust.verify_attestation(label, head.epoch, each)
        found[each.revision] = each.signature.key_id
    return found


def test_turning_on_and_rotating(cluster: Place) -> None:
    assert head_of(cluster, "Shop").issue is None
    first = create(cluster)
    until(lambda: head_of(cluster, "Shop").issue, "the publisher signs")
    Trust([first]).verify_head(head_of(cluster, "Shop"))

    careful = cluster.run("keys", "sign")
    assert careful.code == 1
    assert "Shop: 3 left as they are: nobody signed" in careful.err
    assert "keys sign --unsigned" in careful.err
    assert signed_by(cluster, "Shop", Trust([first])) == {}

    on_my_word = cluster.run("keys", "sign", "--unsigned")
    assert on_my_word.code == 0, on_my_word.err
    assert f"Shop: 3 signed anew with key {first.key_id}, revision 4" in on_my_word.out
    assert f"Empty: 0 signed anew with key {first.key_id}, revision 3" in on_my_word.out
    assert signed_by(cluster, "Shop", Trust([first])) == {4: first.key_id}
    assert signed_by(cluster, "Empty", Trust([first])) == {3: first.key_id}
    again = cluster.run("keys", "sign")
    assert f"Shop: all is signed with key {first.key_id}" in again.out
    assert head_of(cluster, "Shop").revision == 4

    second = create(cluster)
    states = {
        each["key_id"]: each["state"] for each in cluster.run("keys", "list", "--json").json()
    }
    assert states == {first.key_id: "signs", second.key_id: "waits"}
    assert cluster.run("keys", "use", second.key_id).code == 0
    kept = cluster.run("keys", "retire", first.key_id)
    assert kept.code == 1
    assert "signed what still stands: 1 in label 'Empty', 3 in label 'Shop'" in kept.err
    assert "gatesync keys sign" in kept.err

    rotated = cluster.run("keys", "sign", "--json")
    assert rotated.code == 0, rotated.err
    done = {each["label"]: (each["signed"], each["key_id"]) for each in rotated.json()}
    assert done == {"Shop": (3, second.key_id), "Empty": (0, second.key_id)}
    signing = cluster.run("keys", "retire", second.key_id)
    assert signing.code == 1
    assert f"key {second.key_id} is the one that signs" in signing.err
    assert cluster.run("keys", "retire", first.key_id).code == 0
    assert post(cluster, "/v1/changes", publishing(document("d"), label="Shop"))
    by = signed_by(cluster, "Shop", Trust([first, second]))
    assert {by[5], by[6]} == {second.key_id}

    audit = cluster.ask("/v1/audit").json()["entries"]
    told = [(each["verb"], each.get("labels"), each.get("detail", "")) for each in audit]
    for verb, detail in (
        ("create key", first.key_id),
        ("create key", second.key_id),
        ("use key", second.key_id),
        ("retire key", first.key_id),
    ):
        assert (verb, None, detail) in told
    renewals = [each for each in audit if each["verb"] == "sign again"]
    refused = [each for each in renewals if not each.get("revisions")]
    assert {each["labels"][0] for each in renewals} == {"Shop", "Empty"}
    assert any(each["revisions"][0]["last"] == 4 for each in renewals if each.get("revisions"))
    assert refused
    assert "(keys sign)" in cluster.ask("/v1/history?name=a").body.decode()


def test_a_publisher_does_not_start_with_a_key_that_others_can_read(tmp_path: Path) -> None:
    with place(tmp_path) as cluster:
        key = create(cluster)
        path = cluster.data / "keys" / f"{key.key_id}.json"
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o644)
        role = cluster.role("publisher").start(wait=False)
        until(lambda: not role.alive, "it ends")
        assert role.stop() == 3
        said = role.said()
        assert f"{path}: others can access this private key (mode 0644)" in said
        assert "chmod 600" in said
        assert "Traceback" not in said
        private = json.loads(path.read_text())["private"]
        assert private not in said
        for command in (("list",), ("retire", key.key_id)):
            done = cluster.run("keys", *command)
            assert done.code == 2
            assert "others can access this private key" in done.err
            assert private not in done.out + done.err


def test_what_is_wrong_or_not_allowed_is_said(cluster: Place) -> None:
    none = cluster.run("keys", "sign")
    assert none.code == 2
    assert "has no key to sign with; make one: gatesync keys create" in none.err
    key = create(cluster)
    assert "there is no label 'Nobody'" in cluster.run("keys", "sign", "--label", "Nobody").err
    done = cluster.run("keys", "use", "0" * 16)
    assert done.code == 2
    assert "there is no key '0000000000000000'; see `gatesync keys list`" in done.err

    with cluster.config.open("a") as config:
        config.write(f"[gatesync.signing]\nkey = '{'0' * 16}'\n")
    pinned = cluster.run("keys", "list", "-c", cluster.config)
    assert pinned.code == 2
    assert key.text in pinned.out
    assert "[gatesync.signing] key = '0000000000000000' is not in the folder" in pinned.err

    node = cluster.create_token("node", "n1", "Shop")
    limited = cluster.create_token("publish", "limited", "Empty")
    assert cluster.ask("/v1/keys", token=node).status == 403
    said = cluster.ask("/v1/keys", token=limited).json()
    assert [each["label"] for each in said["labels"]] == ["Empty"]
    for token in (node, limited):
        asked = {"label": "Shop", "unsigned": True}
        assert cluster.ask("/v1/keys/sign", method="POST", body=asked, token=token).status == 403
    assert signed_by(cluster, "Shop", Trust([key])) == {}
    assert cluster.ask("/v1/attestations?label=Empty", token=node).status == 403


def test_the_folder_that_a_first_key_makes_is_for_its_owner_alone(tmp_path: Path) -> None:
    assert run(tmp_path, "keys", "create").code == 0
    assert (tmp_path / "gatesync-data").stat().st_mode & 0o777 == 0o700
