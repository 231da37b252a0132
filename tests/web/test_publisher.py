"""The publisher over HTTP: what clients and gateways rely on."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gatesync.artifacts.digests import digest_of
from gatesync.gateway.open_paths import OPEN_PATHS
from tests.servers.gatesync import LABEL, Place, ask, document, place, publishing, until


def published(cluster: Place, *names: str, label: str) -> Any:
    body = publishing(*(document(name) for name in names), label=label)
    answer = cluster.ask("/v1/changes", method="POST", body=body)
    assert answer.status == 200, answer.body
    return answer.json()


def references(node: Any) -> list[str]:
    """Every `$ref` in a document."""
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [each for inner in node.values() for each in references(inner)]
    if isinstance(node, list):
        return [each for inner in node for each in references(inner)]
    return []


def openapi_of(url: str, token: str) -> Any:
    answer = ask(url, "/openapi/openapi.json", token=token)
    assert answer.status == 200
    return answer.json()


def both(cluster: Place) -> list[tuple[str, str]]:
    return [(cluster.publisher, cluster.operator), (cluster.gateway, cluster.admin_token())]


def test_nothing_but_health_is_answered_without_a_token(cluster: Place) -> None:
    for url, token in both(cluster):
        paths = openapi_of(url, token)["paths"]
        assert len(paths) >= 6
        operations = [(path, method) for path, item in paths.items() for method in item]
        more = [("/openapi", "get"), ("/openapi/openapi.json", "get"), ("/", "get")]
        more += [("/openapi/swagger", "get"), ("/health", "get"), ("/nothing", "get")]
        more += [("/health/../v1/labels", "get"), ("/health/..%2fmetrics", "get")]
        for path, method in operations + more:
            for wrong in (None, "", "gst_wrong", cluster.node_token()[:-1], "é"):
                answer = ask(url, path, method=method.upper(), token=wrong)
                if path in {"/health/live", "/health/ready", *OPEN_PATHS}:
                    assert answer.status == 200
                else:
                    assert answer.status in {401, 404}, (path, wrong, answer)
                    assert answer.status == 401 or path.startswith("/health/")


def test_openapi_describes_every_operation(cluster: Place) -> None:
    for url, token in both(cluster):
        found = openapi_of(url, token)
        assert found["openapi"].startswith("3.")
        assert found["info"]["title"].startswith("gatesync ")
        assert found["info"]["version"]
        identifiers = []
        for path, item in found["paths"].items():
            assert path.startswith("/")
            for operation in item.values():
                identifiers.append(operation["operationId"])
                assert operation["responses"]
                named = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
                assert named == {s[1:-1] for s in path.split("/") if s.startswith("{")}
        assert len(set(identifiers)) == len(identifiers)
        for reference in references(found):
            node = found
            for step in reference.removeprefix("#/").split("/"):
                node = node[step]
        page = ask(url, "/openapi/swagger", token=token)
        assert (page.status, page.headers["content-type"].split(";")[0]) == (200, "text/html")


def metrics_of(url: str, token: str) -> dict[str, float]:
    answer = ask(url, "/metrics", token=token)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.body.decode()))
    assert all(family.documentation for family in families)
    samples = [sample for family in families for sample in family.samples]
    return {each.name + "".join(each.labels.values()): each.value for each in samples}


def test_metrics_are_prometheus_text(cluster: Place) -> None:
    metrics = metrics_of(cluster.publisher, cluster.operator)
    assert metrics["gatesync_publisher_gatewaysreporting"] >= 1
    metrics = metrics_of(cluster.gateway, cluster.admin_token())
    assert metrics[f"gatesync_gateway_proof_age_seconds{LABEL}"] < 5


def test_contents_never_change_and_say_so(cluster: Place) -> None:
    (entry,) = published(cluster, "etag", label="etag")["change_sets"][0]["changes"]
    path = f"/v1/contents/{entry['entry']['digest']}"
    first = cluster.ask(path)
    assert (first.status, digest_of(first.body)) == (200, entry["entry"]["digest"])
    assert "immutable" in first.headers["cache-control"]

    again = cluster.ask(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    other = cluster.ask(path, headers={"If-None-Match": '"another"'})
    assert (other.status, other.body) == (200, first.body)


@pytest.mark.promise(3)
def test_a_key_is_good_for_one_change(cluster: Place) -> None:
    body = publishing(document("key"), label="key")
    headers = {"Idempotency-Key": "key-1"}
    first = cluster.ask("/v1/changes", method="POST", body=body, headers=headers).json()
    assert not first["repeated"]
    heads = cluster.heads()

    again = cluster.ask("/v1/changes", method="POST", body=body, headers=headers).json()
    assert again["repeated"]
    assert again["change_sets"] == first["change_sets"]
    assert cluster.heads() == heads

    body = publishing(document("other"), label="key")
    refused = cluster.ask("/v1/changes", method="POST", body=body, headers=headers)
    assert (refused.status, refused.json()["code"]) == (409, "key-used")
    assert cluster.heads() == heads


@pytest.mark.parametrize("key", ["x" * 201, "é", ""])
def test_an_odd_key_is_refused_or_taken_but_never_a_fault(cluster: Place, key: str) -> None:
    body = publishing(document("odd-key"), label="odd-key")
    headers = {"Idempotency-Key": key}
    answer = cluster.ask("/v1/changes", method="POST", body=body, headers=headers)
    assert answer.status in {200, 400}, answer.body
    assert answer.status == 400 or len(key) < 200


def test_behind_and_another_history_are_told_apart_from_too_old(tmp_path: Path) -> None:
    with place(tmp_path / "here") as here:
        text = here.config.read_text()
        key = "[gatesync.publisher]\n"
        here.config.write_text(text.replace(key, key + "retention_revisions = 1\n"))
        role = here.role("up").start()
        for name in "abcd":
            head = published(here, name, label=LABEL)["heads"][0]
        label, epoch = quote(LABEL), head["epoch"]
        since = f"/v1/changes?label={label}&epoch={epoch}&since="
        assert here.ask(since + "2").status == 200
        behind = here.ask(f"{since}{head['revision'] + 1}")
        assert (behind.status, behind.json()["code"]) == (409, "behind")
        assert behind.json()["head"]["revision"] == head["revision"]
        at = f"/v1/manifest?label={label}&epoch={epoch}&revision={head['revision'] + 1}"
        assert here.ask(at).status == 409

        role.stop()  # what is beyond the retention goes at the next start
        role.start()
        until(lambda: here.ask(since + "1").status == 410, "revision 1 is too old")
        assert here.ask(since + "1").json()["code"] == "too-old"
        assert here.ask(f"{since}{head['revision']}").status == 200


def test_of_64_at_once_the_invalid_one_fails_alone(cluster: Place) -> None:
    label = "64 at once"
    published(cluster, "taken", label=label)
    before = metrics_of(cluster.publisher, cluster.operator)["gatesync_publisher_commits_total"]
    wanted = [publishing(document(f"n{n}"), label=label) for n in range(63)]
    wanted.insert(30, publishing(document("taken", api_id="another"), label=label))
    connections = []
    for each in wanted:  # all but the last byte of each, then all last bytes
        parts = urlsplit(cluster.publisher)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        body = json.dumps(each).encode()
        connection.putrequest("POST", "/v1/changes")
        connection.putheader("Authorization", f"Bearer {cluster.operator}")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:-1])
        connections.append((connection, body[-1:]))
    for connection, last in connections:
        connection.send(last)
    answers = []
    for connection, _ in connections:
        response = connection.getresponse()
        answers.append((response.status, json.loads(response.read())))
        connection.close()

    assert [number for number, (status, _) in enumerate(answers) if status != 200] == [30]
    assert answers[30][0] == 409
    assert "taken" in answers[30][1]["reasons"][0]
    revisions = {a["change_sets"][0]["revision"] for s, a in answers if s == 200}
    assert len(revisions) == 63
    after = metrics_of(cluster.publisher, cluster.operator)["gatesync_publisher_commits_total"]
    assert 0 < after - before < 64
    names = cluster.ask(f"/v1/artifacts?label={quote(label)}").json()["artifacts"]
    assert len(names) == 64


@pytest.mark.promise(9)
def test_a_long_poll_ends_with_the_news(tmp_path: Path) -> None:
    with place(tmp_path / "slow", heartbeat_ms=30_000) as here:
        here.role("up").start()
        status = lambda: ask(here.gateway, "/v1/status", token=here.admin_token()).json()  # noqa: E731
        until(lambda: status()["connected"], "the gateway hears events")
        epoch = here.ask("/v1/cluster").json()["epoch"]
        path = f"/v1/receipts?label={quote(LABEL)}&epoch={epoch}&revision=1"
        version = until(lambda: here.ask(path).json()["receipts"], "it has reported")
        version = here.ask(path).json()["version"]

        began = time.monotonic()
        quiet = here.ask(f"{path}&version={version}&wait=0.5").json()
        assert time.monotonic() - began >= 0.5
        assert quiet["version"] == version

        with ThreadPoolExecutor(1) as threads:
            began = time.monotonic()
            poll = threads.submit(here.ask, f"{path}&version={version}&wait=20")
            published(here, "news", label=LABEL)
            answer = poll.result().json()
        assert time.monotonic() - began < 10
        assert [each["status"] for each in answer["receipts"]] == ["applied"]
