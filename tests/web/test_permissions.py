"""Who may do what: a node reads its own labels and reports for itself, and no more."""

import itertools
import uuid
from urllib.parse import quote

import pytest

from gatesync.events.messages import NodeReport, encode
from tests.servers.gatesync import LABEL, Place, ask, document, publishing

_numbers = itertools.count()


@pytest.fixture
def node(cluster: Place) -> tuple[str, str]:
    """A node's id, and its token for one label."""
    name = f"node{next(_numbers)}"
    return name, cluster.create_token("node", name, LABEL)


def report_of(node: str) -> bytes:
    incarnation = str(uuid.uuid4())
    return encode(NodeReport(node, incarnation, 1, "0", "memory", "http://127.0.0.1:1", 1, ()))


READS = [
    "/v1/heads?label={}",
    "/v1/changes?label={}&epoch=e&since=0",
    "/v1/manifest?label={}",
    "/v1/digest?label={}&epoch=e&revision=0",
]


@pytest.mark.parametrize("path", READS)
def test_a_node_reads_its_own_labels_only(cluster: Place, node: tuple[str, str], path: str) -> None:
    own = cluster.ask(path.format(quote(LABEL)), token=node[1])
    assert own.status in {200, 410}  # 410: the epoch is none of the store's
    for label in ("Second", LABEL.lower(), f"{LABEL} ", "*"):
        other = cluster.ask(path.format(quote(label)), token=node[1])
        assert (other.status, other.json()["code"]) == (403, "forbidden")
        assert f"this token may not read label {label!r}" in other.reasons


def test_one_label_of_another_is_enough_to_refuse(cluster: Place, node: tuple[str, str]) -> None:
    answer = cluster.ask(f"/v1/heads?label={quote(LABEL)}&label=Second", token=node[1])
    assert answer.status == 403


def test_a_node_reports_for_itself_only(cluster: Place, node: tuple[str, str]) -> None:
    name, token = node
    gateways = lambda: {g["node"] for g in cluster.ask("/v1/gateways").json()["gateways"]}  # noqa: E731
    for report_as, who in (("stranger", token), ("stranger", cluster.operator)):
        answer = cluster.ask("/v1/reports", method="POST", body=report_of(report_as), token=who)
        assert (answer.status, answer.json()["code"]) == (403, "forbidden")
        assert "this token may not report for node 'stranger'" in answer.reasons
    assert "stranger" not in gateways()
    own = cluster.ask("/v1/reports", method="POST", body=report_of(name), token=token)
    assert own.status == 200
    assert name in gateways()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/changes"),
        ("POST", "/v1/labels/confirm"),
        ("GET", "/v1/artifacts"),
        ("GET", "/v1/labels"),
        ("GET", "/v1/gateways"),
        ("GET", "/v1/receipts?label=l&epoch=e&revision=1"),
        ("POST", "/v1/verifications"),
        ("GET", "/v1/verifications/x"),
    ],
)
def test_a_node_is_no_operator(
    cluster: Place, node: tuple[str, str], method: str, path: str
) -> None:
    heads = cluster.heads()
    body = None
    if method == "POST":
        body = {"label": LABEL} if "confirm" in path else publishing(document("by-a-node"))
    answer = cluster.ask(path, method=method, body=body, token=node[1])
    assert (answer.status, answer.json()["code"]) == (403, "forbidden")
    assert cluster.heads() == heads


def test_a_reader_may_look_and_not_touch(cluster: Place) -> None:
    token = cluster.create_token("read", f"reader{next(_numbers)}")
    heads = cluster.heads()
    assert cluster.ask("/v1/artifacts", token=token).status == 200
    body = publishing(document("by-a-reader"))
    assert cluster.ask("/v1/changes", method="POST", body=body, token=token).status == 403
    confirm = cluster.ask("/v1/labels/confirm", method="POST", body={"label": LABEL}, token=token)
    assert confirm.status == 403
    assert cluster.heads() == heads


def test_a_revoked_token_is_refused_at_once(cluster: Place, node: tuple[str, str]) -> None:
    name, token = node
    path = f"/v1/heads?label={quote(LABEL)}"
    assert cluster.ask(path, token=token).status == 200
    assert cluster.run("token", "revoke", name, "-c", cluster.config).code == 0
    assert cluster.ask(path, token=token).status == 401


def test_the_publishers_tokens_are_not_the_gateways(cluster: Place) -> None:
    for token in (cluster.operator, cluster.node_token()):
        assert ask(cluster.gateway, "/v1/held", token=token).status == 401
    assert cluster.ask("/v1/labels", token=cluster.admin_token()).status == 401
