"""Bad requests: a 4xx that says why, whatever the body, and every head stays where it was."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gatesync.artifacts.compression import compress
from tests.servers.gatesync import Answer, Place, ask, document, publishing, sequence_xml

LABEL = "bad requests"
MIB = 1024 * 1024
DEEP = 100_000
BOMB = b"""<!DOCTYPE s [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><sequence name="s">&c;</sequence>"""
EXTERNAL = (
    b'<?xml version="1.0"?>\n<!DOCTYPE s [<!ENTITY a SYSTEM "file:///etc/passwd">]><s>&a;</s>'
)
NESTED = b'<sequence name="a">' + b"<a>" * 10_000 + b"</a>" * 10_000 + b"</sequence>"


def good(**more: Any) -> dict[str, Any]:
    return publishing(document("a"), label=LABEL, **more)


def xml(content: bytes) -> dict[str, Any]:
    return publishing(document("a", content), label=LABEL)


def changed(**members: Any) -> dict[str, Any]:
    return publishing(document("a") | members, label=LABEL)


def part(**members: Any) -> dict[str, Any]:
    whole = document("a")
    whole["parts"][0] |= members
    return publishing(whole, label=LABEL)


def text(old: str, new: str) -> bytes:
    """A good request with one piece of its JSON text replaced."""
    whole = json.dumps(good())
    assert old in whole
    return whole.replace(old, new).encode()


def refused(cluster: Place, answer: Answer, status: int, message: str) -> None:
    """It was refused so, in JSON, and nothing has changed."""
    assert answer.status == status, answer.body[:1000]
    assert set(answer.json()) >= {"code", "reasons", "format"}
    assert message in answer.reasons
    assert len(answer.body) < 10_000
    assert LABEL not in {head["label"] for head in cluster.heads()}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(xml(b"<sequence\n name='a'>\n<log>"), "a.xml:3: not well-", id="broken XML"),
        pytest.param(xml(BOMB), "a.xml:1: a DOCTYPE is not accepted", id="entity bomb"),
        pytest.param(xml(EXTERNAL), "a.xml:2: a DOCTYPE is not accepted", id="external entity"),
        pytest.param(xml(NESTED), "nested more than 256 deep", id="10,000 nested elements"),
        pytest.param(xml(sequence_xml("b")), "names it 'b'", id="other name"),
        pytest.param(xml(sequence_xml("a", "x" * 16 * MIB)), "at most", id="16 MiB"),
        pytest.param(changed(name="../a"), "'../a' contains a path step", id="name walks up"),
        pytest.param(changed(tenant="a/../b"), "contains a path step", id="tenant walks up"),
        pytest.param(changed(version=".."), "contains a path step", id="version walks up"),
        pytest.param(changed(api_id="../a"), "contains a path step", id="api_id walks up"),
        pytest.param(changed(kind="virus"), "kind", id="unknown kind"),
        pytest.param(changed(parts=[]), "has no parts", id="no parts"),
        pytest.param(changed(name=""), "name is empty", id="no name"),
        pytest.param(changed(name="\ud800"), "surrogate", id="lone surrogate"),
        pytest.param(changed(extra={"a": "\udfff"}), "surrogate", id="lone surrogate in extra"),
        pytest.param(changed(name="x" * 256), "256 bytes; at most 255", id="long name"),
        pytest.param(changed(format="gatesync.artifact/9"), "is unknown", id="unknown format"),
        pytest.param(changed(format=None), "format", id="no format"),
        pytest.param(changed(more=1), "more", id="unknown member"),
        pytest.param(changed(extra=[1]), "extra", id="extra is a list"),
        pytest.param(changed(extra={"n": 10**400}), "", id="huge int in extra"),
        pytest.param(part(path="../../etc/passwd"), "must be relative", id="path walks up"),
        pytest.param(part(path="/etc/passwd"), "must be relative", id="absolute path"),
        pytest.param(part(path="a\\b"), "must be relative", id="backslash"),
        pytest.param(part(base64="!!"), "either 'text' or 'base64'", id="two contents"),
        pytest.param(part(text=None), "", id="no content"),
        pytest.param(good(labels=[]), "labels is empty; name at least one", id="no label"),
        pytest.param(good(labels=[""]), "label is empty", id="empty label"),
        pytest.param(good(labels=["x" * 256]), "256 bytes; at most 255", id="256-byte label"),
        pytest.param(good(labels=["é" * 128]), "256 bytes; at most 255", id="256 bytes of é"),
        pytest.param(good(labels=["a\nb"]), "control character", id="line break in label"),
        pytest.param(good(labels=[f"l{n}" for n in range(101)]), "at most 100", id="101 labels"),
        pytest.param(good(labels="l"), "array", id="labels is a text"),
        pytest.param(good(labels=[1]), "str", id="label is a number"),
        pytest.param(good(publish=[]), "nothing to publish and nothing to rem", id="nothing to do"),
        pytest.param(good(publish={}), "array", id="publish is an object"),
        pytest.param(good(publish=[1]), "object", id="artifact is a number"),
        pytest.param(good(publish=[{}]), "artifact", id="no artifact"),
        pytest.param(good(publish=[], remove=["../a"]), "path step", id="removal walks up"),
        pytest.param(good(atomic="yes"), "bool", id="atomic is a text"),
        pytest.param(good(format="gatesync.http/9"), "gatesync.http/9", id="unknown http format"),
        pytest.param([], "object", id="a list"),
        pytest.param(None, "", id="no body"),
        pytest.param(b"", "", id="empty body"),
        pytest.param(b"not json", "", id="not JSON"),
        pytest.param(b"\xff\xfe", "", id="not UTF-8"),
        pytest.param(text('"extra": {}', '"extra": NaN'), "", id="NaN"),
        pytest.param(text('"extra": {}', '"extra": {"a": 1e999}'), "", id="infinite number"),
        pytest.param(text('"extra": {}', '"extra": ' + "[" * DEEP + "]" * DEEP), "", id="deep"),
        pytest.param(b"[" * DEEP + b"]" * DEEP, "", id="nothing but brackets"),
        pytest.param(b'{"a":' * DEEP + b"1" + b"}" * DEEP, "", id="nothing but braces"),
        pytest.param(json.dumps(good())[:-1].encode(), "", id="cut short"),
        pytest.param(json.dumps(good()).encode() + b"{}", "", id="two documents"),
    ],
)  # fmt: skip
def test_what_cannot_be_published(cluster: Place, body: Any, message: str) -> None:
    answer = cluster.ask("/v1/changes", method="POST", body=body)
    refused(cluster, answer, 400, message)


def test_a_member_that_is_there_twice(cluster: Place) -> None:
    body = text('"kind": "sequence"', '"kind": "sequence", "kind": "sequence"')
    answer = cluster.ask("/v1/changes", method="POST", body=body)
    refused(cluster, answer, 400, "two members 'kind' in one object")


def test_a_digest_that_does_not_match(cluster: Place) -> None:
    body = good()
    body["publish"][0]["digest"] = "0" * 64
    answer = cluster.ask("/v1/changes", method="POST", body=body)
    refused(cluster, answer, 400, f"the request says {'0' * 64}")


def test_what_is_wrong_is_told_all_at_once(cluster: Place) -> None:
    body = publishing(document("../a"), document("b", b"<"), label="")
    answer = cluster.ask("/v1/changes", method="POST", body=body)
    refused(cluster, answer, 400, "label is empty")
    assert "path step" in answer.reasons
    assert "b.xml:1: not well-formed" in answer.reasons


@pytest.mark.parametrize("number", [10**18 + 1, 2**63, 2**64, 10**30])
def test_numbers_without_end(cluster: Place, number: int) -> None:
    for sign in (1, -1):
        value = sign * number
        for path in (
            f"/v1/changes?label={LABEL}&epoch=e&since={value}",
            f"/v1/manifest?label={LABEL}&epoch=e&revision={value}",
            f"/v1/manifest?label={LABEL}&at_epoch=e&at_revision={value}",
            f"/v1/digest?label={LABEL}&epoch=e&revision={value}",
            f"/v1/receipts?label={LABEL}&epoch=e&revision={value}&first={value}&version={value}",
        ):
            answer = cluster.ask(path.replace(" ", "%20"))
            assert answer.status < 500, (path, answer.body)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/heads",
        "/v1/heads?label=",
        "/v1/heads?label=%00",
        "/v1/heads?label=" + "x" * 256,
        "/v1/changes",
        "/v1/changes?label=l",
        "/v1/changes?label=l&epoch=e&since=soon",
        "/v1/changes?label=l&epoch=e&since=",
        "/v1/changes?label=l&epoch=e&since=1.5",
        "/v1/changes?label=l&epoch=e&since=NaN",
        "/v1/changes?label=l&epoch=e&since=-1",
        f"/v1/changes?label=l&epoch=e&since={2**63}",
        "/v1/manifest?label=l&limit=0",
        "/v1/manifest?label=l&limit=5001",
        "/v1/manifest?label=l&revision=x",
        f"/v1/manifest?label=l&at_epoch=e&at_revision={2**63}",
        "/v1/digest?label=l",
        f"/v1/digest?label=l&epoch=e&revision={2**63}",
        "/v1/receipts?label=l&epoch=e&revision=1&wait=31",
        "/v1/receipts?label=l&epoch=e&revision=1&wait=-1",
        "/v1/receipts?label=l&epoch=e&revision=1&wait=NaN",
        "/v1/receipts?label=l&epoch=e&revision=1&wait=inf",
        "/v1/receipts?label=l&epoch=e",
        "/v1/artifacts?label=",
    ],
)
def test_wrong_queries(cluster: Place, path: str) -> None:
    answer = cluster.ask(path)
    assert answer.status == 400, answer.body
    assert answer.json()["reasons"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("GET", "/v1/contents/" + "0" * 64, 404),
        ("GET", "/v1/frames/", 404),
        ("GET", "/v1/contents/..%2f..%2fetc%2fpasswd", 404),
        ("DELETE", "/v1/changes", 405),
        ("PUT", "/v1/labels", 405),
    ],
)
def test_what_is_not_there(cluster: Place, method: str, path: str, status: int) -> None:
    answer = cluster.ask(path, method=method)
    assert answer.status == status, answer.body
    assert answer.json()["reasons"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/labels/confirm", {"label": ""}),
        ("/v1/labels/confirm", {"label": None}),
        ("/v1/labels/confirm", []),
        ("/v1/reports", {}),
        ("/v1/reports", b"\xff"),
        ("/v1/reports", b"[" * DEEP),
        ("/v1/reports", {"format": "gatesync.report/9"}),
    ],
)
def test_wrong_bodies_elsewhere(cluster: Place, path: str, body: Any) -> None:
    answer = cluster.ask(path, method="POST", body=body)
    assert answer.status == 400, answer.body
    assert answer.json()["reasons"]


def zeros(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"0" * MIB


def test_a_body_that_decompresses_to_gigabytes(cluster: Place) -> None:
    (role,) = cluster.started
    one = compress(b" " * (256 * MIB))
    before = role.rss()
    for frame in (one, one * 8):
        for encoding in ("zstd", " ZSTD "):
            headers = {"Content-Encoding": encoding}
            answer = cluster.ask("/v1/changes", method="POST", body=frame, headers=headers)
            refused(cluster, answer, 400, "decompresses to more than")
    assert role.rss() - before < 200 * MIB  # the limit of a request is 64 MiB


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd, zstd", "identity, zstd", "x"])
def test_an_encoding_that_is_not_known(cluster: Place, encoding: str) -> None:
    headers = {"Content-Encoding": encoding}
    answer = cluster.ask("/v1/changes", method="POST", body=good(), headers=headers)
    refused(cluster, answer, 415, "as it is, or as zstd")


@pytest.mark.parametrize(
    "body",
    [b"no frame", compress(b"{}")[:-1], compress(b"{}") + b"more", compress(b"{}") * 2],
    ids=["no frame", "cut short", "more behind it", "two frames"],
)
def test_a_frame_that_is_not_whole(cluster: Place, body: bytes) -> None:
    headers = {"Content-Encoding": "zstd"}
    answer = cluster.ask("/v1/changes", method="POST", body=body, headers=headers)
    refused(cluster, answer, 400, "the body ")


def test_a_body_without_a_length_beyond_the_limit(cluster: Place) -> None:
    (role,) = cluster.started
    before = role.rss()
    try:
        answer = cluster.ask("/v1/changes", method="POST", body=zeros(300))
        refused(cluster, answer, 413, "a request has at most")
    except (BrokenPipeError, ConnectionResetError):
        pass  # it hung up while we were still sending
    assert role.rss() - before < 200 * MIB
    assert LABEL not in {head["label"] for head in cluster.heads()}


@pytest.mark.parametrize("length", [str(64 * MIB + 1), str(2**60)])
def test_a_length_beyond_the_limit(cluster: Place, length: str) -> None:
    headers = {"Content-Length": length}
    answer = cluster.ask("/v1/changes", method="POST", body=b"{}", headers=headers)
    refused(cluster, answer, 413, f"a request has at most {64 * MIB} bytes")


@pytest.mark.parametrize("length", ["-1", "many", "1e3", "\xb2", str(10**30)])
def test_a_length_that_is_none(cluster: Place, length: str) -> None:
    headers = {"Content-Length": length}
    answer = cluster.ask("/v1/changes", method="POST", body=b"{}", headers=headers)
    assert answer.status == 400
    assert LABEL not in {head["label"] for head in cluster.heads()}


@pytest.mark.parametrize("path", ["/health/ready", "/health/live"])
def test_a_stranger_has_nothing_to_send(cluster: Place, path: str) -> None:
    for body, headers in (
        (b" " * 1025, {}),
        (compress(b" " * 1025), {"Content-Encoding": "zstd"}),
    ):
        answer = ask(cluster.publisher, path, body=body, headers=headers)
        assert answer.status in {400, 413}, answer.body
        assert "1024 bytes" in answer.reasons
    assert ask(cluster.publisher, path, body=b" " * 1024).status == 200


def test_a_compressed_request_is_taken(cluster: Place) -> None:
    body = publishing(document("compressed"), label="compressed")
    headers = {"Content-Encoding": "zstd"}
    answer = cluster.ask(
        "/v1/changes", method="POST", body=compress(json.dumps(body).encode()), headers=headers
    )
    assert answer.status == 200, answer.body


def test_the_log_shows_no_fault_of_ours(cluster: Place) -> None:
    """Runs last: none of the requests above was an internal fault."""
    (role,) = cluster.started
    assert "Traceback" not in role.said()
    assert "a request failed" not in role.said()
    assert ask(cluster.publisher, "/health/ready").status == 200
