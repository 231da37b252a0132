"""A node that may read one label tries to learn of another, over HTTP, in every way there is."""

import asyncio
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from gatesync.artifacts.digests import EMPTY_LABEL
from gatesync.events.messages import Inventory, LabelInventory, LabelReport, NodeReport, encode
from gatesync.stores.wire import frame_path, unpack_contents
from tests.attacks.two_labels import ALPHA, BETA, NOTHING, NOWHERE, SECRET, TwoLabels, two_labels
from tests.servers.gatesync import Answer, ask, document, publishing, sequence_xml
from tests.servers.nginx import nginx

pytestmark = pytest.mark.promise(8)

SCALING = Path(__file__).parents[2] / "docs" / "scaling.md"
LIMIT = 1024 * 1024


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoLabels]:
    with two_labels(tmp_path_factory.mktemp("reading")) as running:
        yield running


@pytest.fixture(scope="module")
def node(cluster: TwoLabels) -> str:
    """The attacker's token, a good one: for Alpha."""
    return cluster.token("node", "attacker", [ALPHA])


@pytest.fixture(scope="module")
def everyone(cluster: TwoLabels) -> str:
    """The token of a node that reads every label."""
    return cluster.token("node", "everyone", ["*"])


def seen(answer: Answer, *said: str) -> tuple[int, dict[str, str], bytes]:
    """All of an answer, without what was said in the question."""
    body = answer.body
    for each in said:
        body = body.replace(each.encode(), b"...")
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    return answer.status, headers, body


def routes(cluster: TwoLabels, token: str) -> list[dict[str, Any]]:
    """Every GET of the OpenAPI page, with the parameters that it takes."""
    page = cluster.ask("/openapi/openapi.json", token).json()
    return [
        {"path": path, "parameters": each["get"].get("parameters", [])}
        for path, each in page["paths"].items()
        if "get" in each
    ]


def filled(route: dict[str, Any], values: dict[str, str]) -> str:
    """The URL of this route for these values, as far as it takes them."""
    path, query = route["path"], {}
    for parameter in route["parameters"]:
        name = parameter["name"]
        if parameter["in"] == "path":
            value = values[f"{route['path'].split('/')[2]}/{name}"]
            path = path.replace(f"{{{name}}}", quote(value))
        elif parameter["in"] == "query" and name in values:
            query[name] = values[name]
        elif parameter["in"] == "query":
            assert not parameter.get("required"), f"{path}: no value for {name}"
    return f"{path}?{urlencode(query)}" if query else path


def test_no_route_tells_whether_there_is_another_label_or_what_it_holds(
    cluster: TwoLabels, node: str
) -> None:
    """Each is asked about Beta and what is in it, and about what there is not at all."""
    beta, epoch = cluster.artifacts["beta"], cluster.place.heads()[0]["epoch"]

    def values(label: str, name: str, api_id: str, digest: str) -> dict[str, str]:
        return {
            "label": label,
            "name": name,
            "api_id": api_id,
            "epoch": epoch,
            "revision": "2",
            "since": "1",
            "frames/name": frame_path([digest]).rpartition("/")[2],
            "contents/digest": digest,
            "verifications/verification": name,
        }

    there = values(BETA, "beta", beta.api_id, beta.digest)
    not_there = values(NOWHERE, "nope", str(uuid.uuid4()), NOTHING)
    asked = [each for each in routes(cluster, node) if not each["path"].startswith("/health/")]
    assert len(asked) > 15
    for route in asked:
        answers = []
        for each in (there, not_there):
            url = filled(route, each)
            answer = cluster.ask(url, node)
            for secret in (BETA, "beta", beta.api_id, beta.digest, SECRET):
                assert secret in url or secret.encode() not in answer.body, route["path"]
            said = (word for word in each.values() if len(word) > 3)
            answers.append(seen(answer, *sorted(said, key=len, reverse=True)))
        assert answers[0] == answers[1], route["path"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/heads?label={}",
        f"/v1/heads?label={ALPHA}&label={{}}",
        "/v1/changes?label={}&epoch=e&since=0",
        "/v1/manifest?label={}",
        "/v1/manifest?label={}&at_epoch=e&at_revision=1",
        "/v1/manifest?label={}&after=a&limit=1",
        "/v1/digest?label={}&epoch=e&revision=1",
    ],
)
def test_another_label_is_refused_as_one_that_never_was(
    cluster: TwoLabels, node: str, path: str
) -> None:
    there, nowhere = (cluster.ask(path.format(label), node) for label in (BETA, NOWHERE))
    assert there.status == 403
    assert seen(there, BETA) == seen(nowhere, NOWHERE)
    for odd in (ALPHA.lower(), f"{ALPHA} ", "*", f"{ALPHA}\u200b"):
        assert cluster.ask(path.format(quote(odd)), node).status == 403


def test_one_that_is_not_ones_own_is_the_same_answer_for_publishers_of_some_labels(
    cluster: TwoLabels,
) -> None:
    token = cluster.token("publish", "ci-alpha", [ALPHA])
    for path in ("/v1/artifacts?label={}", "/v1/receipts?label={}&epoch=e&revision=1"):
        there, nowhere = (cluster.ask(path.format(label), token) for label in (BETA, NOWHERE))
        assert there.status == 403
        assert seen(there, BETA) == seen(nowhere, NOWHERE)


def test_what_only_another_label_holds_is_not_to_be_had_by_its_digest(
    cluster: TwoLabels, node: str, everyone: str
) -> None:
    nothing = cluster.ask(f"/v1/contents/{NOTHING}", node)
    assert nothing.status == 404
    for name in ("beta", "beta-old"):
        digest = cluster.artifacts[name].digest
        whole = cluster.ask(f"/v1/contents/{digest}", everyone)
        assert SECRET.encode() in whole.body
        for headers in ({}, {"If-None-Match": whole.headers["etag"]}, {"Range": "bytes=0-99"}):
            answer = cluster.ask(f"/v1/contents/{digest}", node, headers=headers)
            assert seen(answer, digest) == seen(nothing, NOTHING)
    for name in ("alpha", "shared"):
        assert cluster.ask(f"/v1/contents/{cluster.artifacts[name].digest}", node).status == 200


def test_a_frame_made_for_others_is_not_handed_to_who_may_not_read_part_of_it(
    cluster: TwoLabels, node: str, everyone: str
) -> None:
    alpha, beta, old, shared = (
        cluster.artifacts[name].digest for name in ("alpha", "beta", "beta-old", "shared")
    )
    mixed = [alpha, beta, shared, old]
    guess = [alpha, NOTHING, shared, "2" * 64]
    for whose, expected in (
        (node, {alpha, shared}),
        (everyone, set(mixed)),
        (node, {alpha, shared}),
    ):
        answer = cluster.ask(frame_path(mixed), whose)
        assert set(unpack_contents(answer.body, LIMIT)) == expected
    mine = cluster.ask(frame_path(mixed), node)
    assert mine.headers["cache-control"] == "no-store"
    assert "etag" not in mine.headers
    assert seen(mine) == seen(cluster.ask(frame_path(guess), node))
    alone, nothing = (cluster.ask(frame_path([each]), node) for each in (beta, NOTHING))
    assert seen(alone) == seen(nothing)
    assert unpack_contents(alone.body, LIMIT) == {}


def test_a_node_that_lags_gets_what_a_kept_revision_of_its_label_named(
    cluster: TwoLabels, node: str
) -> None:
    for text in ("first", "second"):
        item = document("replaced", sequence_xml("replaced", text))
        answer = cluster.change(**publishing(item, label=ALPHA))
        (change,) = answer.json()["change_sets"][0]["changes"]
        digest = change["entry"]["digest"]
        assert cluster.ask(f"/v1/contents/{digest}", node).status == 200
    first = cluster.place.ask("/v1/history?name=replaced").json()["history"]["changes"][-1]
    old = first["change"]["entry"]["digest"]
    assert b"first" in cluster.ask(f"/v1/contents/{old}", node).body
    removed = cluster.change(labels=[ALPHA], remove=[first["change"]["entry"]["api_id"]])
    assert removed.status == 200
    assert cluster.ask(f"/v1/contents/{old}", node).status == 200


def printed() -> str:
    found = re.search(r"```nginx\n(.*?)```", SCALING.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


async def test_a_cache_hands_out_nothing_that_the_publisher_would_not(
    cluster: TwoLabels, node: str, everyone: str, tmp_path: Path
) -> None:
    """A real nginx, as docs/scaling.md has it, that holds what only Beta has."""
    alpha, beta = (cluster.artifacts[name].digest for name in ("alpha", "beta"))
    upstream = int(cluster.place.publisher.rpartition(":")[2])
    async with nginx(tmp_path, printed(), upstream) as url:

        async def get(path: str, token: str, **headers: str) -> Answer:
            return await asyncio.to_thread(ask, url, path, token=token, headers=headers)

        for path in (f"/v1/contents/{beta}", frame_path([beta]), frame_path([alpha, beta])):
            for _ in range(2):  # from the publisher, then from the cache
                filled_in = await get(path, everyone)
                assert filled_in.headers["cache-control"].startswith("public")
            for headers in ({}, {"If-None-Match": filled_in.headers["etag"]}):
                through, straight = await get(path, node, **headers), cluster.ask(path, node)
                assert through.status == straight.status
                assert through.body == straight.body
                assert through.headers["cache-control"] == "no-store"
            assert (await get(path, everyone)).body == filled_in.body
        nothing = await get(f"/v1/contents/{NOTHING}", node)
        assert seen(await get(f"/v1/contents/{beta}", node), beta) == seen(nothing, NOTHING)
        assert (await get(f"/v1/contents/{alpha}", node)).status == 200
        for odd in (
            f"/v1/contents/{beta}?x=1",
            f"/v1/contents/%{ord(beta[0]):x}{beta[1:]}",
            f"/v1/contents/{alpha}/../{beta}",
            f"//v1//contents/{beta}",
            f"/v1/contents/{beta}/",
            f"/v1/contents/{beta}#{alpha}",
            f"{frame_path([beta])}?{frame_path([alpha])}",
        ):
            await get(odd, everyone)  # so that it is in the cache, if anything of it gets there
            answer = await get(odd, node, **{"X-Original-URI": f"/v1/contents/{alpha}"})
            assert SECRET.encode() not in answer.body, odd
            assert beta not in str(unpacked(answer)), odd


def unpacked(answer: Answer) -> dict[str, bytes]:
    if answer.headers.get("content-type") != "application/vnd.gatesync.contents":
        return {}
    return unpack_contents(answer.body, LIMIT)


def test_a_cache_that_does_not_say_what_it_is_about_to_serve_is_told_no(
    cluster: TwoLabels, node: str, everyone: str
) -> None:
    alpha, beta = (cluster.artifacts[name].digest for name in ("alpha", "beta"))

    def access(token: str, uri: str | None) -> int:
        headers = {} if uri is None else {"X-Original-URI": uri}
        return cluster.ask("/v1/access", token, headers=headers).status

    mine = [f"/v1/contents/{alpha}", frame_path([alpha])]
    others = [
        f"/v1/contents/{beta}",
        f"/v1/contents/{NOTHING}",
        frame_path([beta]),
        frame_path([alpha, beta]),
        f"/v1/contents/{alpha}?x",
        f"/v1/contents/{alpha.upper()}",
        "/v1/frames/%41",
        "/v1/frames/AAAA",
        "/v1/heads?label=Alpha",
        "",
    ]
    assert [access(node, uri) for uri in mine] == [204] * len(mine)
    assert [access(node, uri) for uri in (*others, None)] == [403] * (len(others) + 1)
    assert [access(everyone, uri) for uri in (*mine, *others, None)] == [204] * 13
    assert access("nobody", mine[0]) == 401


def test_a_node_has_no_say_in_how_far_another_label_is(cluster: TwoLabels, node: str) -> None:
    labels = tuple(LabelReport(each, "e", 9, 9, EMPTY_LABEL, 0) for each in (ALPHA, BETA, NOWHERE))
    verified = Inventory("v", (LabelInventory(BETA, 0, "0" * 64),))
    report = NodeReport(
        "attacker", str(uuid.uuid4()), 1, "0", "memory", "", 1, labels, verification=verified
    )
    answer = cluster.ask("/v1/reports", node, method="POST", body=encode(report))
    assert answer.status == 200
    (known,) = [
        each
        for each in cluster.place.ask("/v1/gateways").json()["gateways"]
        if each["node"] == "attacker"
    ]
    assert [each["label"] for each in known["labels"]] == [ALPHA]
    epoch = cluster.place.heads()[0]["epoch"]
    receipts = cluster.place.ask(f"/v1/receipts?label={BETA}&epoch={epoch}&revision=1")
    assert receipts.json()["receipts"] == []


def test_a_revoked_token_reads_nothing_from_that_moment_on(cluster: TwoLabels) -> None:
    token = cluster.token("node", "leaving", [ALPHA])
    path = f"/v1/contents/{cluster.artifacts['alpha'].digest}"
    assert cluster.ask(path, token).status == 200
    assert cluster.place.run("token", "revoke", "leaving", "-c", cluster.place.config).code == 0
    for each in (path, f"/v1/heads?label={ALPHA}", "/v1/access", "/v1/cluster"):
        assert cluster.ask(each, token).status == 401


def test_a_token_in_a_url_is_refused_and_gets_into_no_log(cluster: TwoLabels) -> None:
    token = cluster.token("node", "careless", [ALPHA])
    for name in ("token", "access_token", "label"):
        for header in (None, token):
            answer = ask(cluster.place.publisher, f"/v1/heads?{name}={token}", token=header)
            assert (answer.status, answer.json()["code"]) == (400, "token-in-url")
            assert token.encode() not in answer.body
    assert ask(cluster.place.publisher, f"/{token}").status == 401  # the audit log has its path
    secret = token.split("_", 2)[2]
    files = [cluster.role.log, *(path for path in cluster.place.data.rglob("*") if path.is_file())]
    assert any(path.name.startswith("audit") for path in files)
    for path in files:
        assert secret.encode() not in path.read_bytes(), path
