import base64
import json
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from gatesync.artifacts.canonical import ARTIFACT_FORMAT, decode, encode
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.errors import FormatError, ProblemsError
from gatesync.artifacts.extra import decode_extra, encode_extra, refuse_repeated_members
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES, Artifact, Identity, Part

from .strategies import artifacts, extras

pytestmark = pytest.mark.fast


def _artifact(content: bytes = b"<a/>", name: str = "n", **extra: Any) -> Artifact:
    part = Part("sequence", name, "sequences/s.xml", content)
    return Artifact(Identity("t", "sequence", name), "id", (part,), extra)


def _document(artifact: Artifact) -> dict[str, Any]:
    def part_document(part: Part) -> dict[str, str]:
        head = {"role": part.role, "name": part.name, "path": part.path}
        try:
            return {**head, "text": part.content.decode()}
        except UnicodeDecodeError:
            return {**head, "base64": base64.b64encode(part.content).decode()}

    return {
        "format": ARTIFACT_FORMAT,
        "tenant": artifact.identity.tenant,
        "kind": artifact.identity.kind,
        "name": artifact.identity.name,
        "version": artifact.identity.version,
        "api_id": artifact.api_id,
        "parts": [part_document(part) for part in artifact.parts],
        "extra": artifact.extra,
    }


@given(artifacts)
def test_the_canonical_form_is_rfc_8785(artifact: Artifact) -> None:
    assert encode(artifact) == rfc8785.dumps(_document(artifact))


@given(st.text())
@example("".join(map(chr, range(0x100))))
@example("\u2028\u2029\ufeff\uffff\U0010ffff")
@example("\ud800")
@example("\udfff\ud800")
def test_any_text_is_written_as_rfc_8785_says_or_refused_with_a_message(text: str) -> None:
    artifact = _artifact(name=text, member=text)
    try:
        expected = rfc8785.dumps(_document(artifact))
    except rfc8785.CanonicalizationError:
        with pytest.raises(FormatError, match="RFC 8785"):
            encode(artifact)
        with pytest.raises(ProblemsError, match="not valid Unicode") as refused:
            encode(_artifact(name=text))
        assert str(refused.value).isprintable()
    else:
        assert encode(artifact) == expected


@given(artifacts)
def test_decoding_gives_back_what_was_encoded(artifact: Artifact) -> None:
    data = encode(artifact)
    assert decode(data) == artifact
    assert encode(decode(data)) == data
    assert decode(msgspec.Raw(data)) == artifact


@given(artifacts, st.randoms(use_true_random=False))
def test_the_order_of_parts_and_members_does_not_matter(artifact: Artifact, random: Any) -> None:
    data = encode(artifact)
    parts = list(artifact.parts)
    random.shuffle(parts)
    assert encode(msgspec.structs.replace(artifact, parts=tuple(parts))) == data
    document = list(_document(artifact).items())
    random.shuffle(document)
    assert encode(decode(json.dumps(dict(document), indent=1).encode())) == data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xef\xbb\xbf<a/>\r\n",
        b"<a>\r\n\t<![CDATA[<!-- ]]></a><?p?>",
        "<a>é\u2028\U0001f600</a>".encode(),
        b"<a>\xe9</a>",
        b"\0\x7f\x80\xff",
        b"\xed\xa0\x80",  # a surrogate in UTF-8 clothes is no UTF-8
        b"\xc0\x80",
    ],
)
def test_contents_survive_byte_for_byte(content: bytes) -> None:
    assert decode(encode(_artifact(content))).parts[0].content == content


def test_another_byte_is_another_digest() -> None:
    assert digest_of(encode(_artifact(b"<a/>"))) != digest_of(encode(_artifact(b"<a />")))


def test_an_artifact_of_more_than_fifteen_mebibytes_is_refused() -> None:
    with pytest.raises(ProblemsError, match=r"sequence n .t.: .* bytes in canonical form"):
        encode(_artifact(b"x" * ARTIFACT_MAX_BYTES))


GOOD = {**_document(_artifact(a=1)), "tenant": "t"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"1",
        b"{}",
        b"\xff",
        b"{",
        json.dumps(GOOD).encode()[:-1],
        json.dumps(GOOD).encode() + b"x",
        b"[" * 100_000,
        b'{"x":' * 100_000,
        json.dumps(GOOD).replace('"a": 1', '"a": ' + "[" * 100_000 + "]" * 100_000).encode(),
        json.dumps(GOOD).replace('"a": 1', '"a": 1e999').encode(),
        json.dumps(GOOD).replace('"a": 1', '"a": NaN').encode(),
        json.dumps(GOOD).replace('"<a/>"', r'"\ud800"').encode(),
        json.dumps({**GOOD, "more": 1}).encode(),
        json.dumps({**GOOD, "name": None}).encode(),
        json.dumps({**GOOD, "parts": {}}).encode(),
        json.dumps({**GOOD, "parts": [1]}).encode(),
        json.dumps({**GOOD, "extra": []}).encode(),
        json.dumps({**GOOD, "parts": [{"role": "api", "name": "a", "path": "a"}]}).encode(),
        *(
            json.dumps(
                {**GOOD, "parts": [{"role": "api", "name": "a", "path": "a", **content}]},
                ensure_ascii=False,
            ).encode()
            for content in (
                {"text": "", "base64": ""},
                {"text": None},
                {"text": 1},
                {"base64": "@@@@"},
                {"base64": "YQ"},
                {"base64": "é==="},
                {"base64": "YQ==\n"},
                {"text": "", "mode": "0644"},
            )
        ),
        *(
            json.dumps({key: value for key, value in GOOD.items() if key != missing}).encode()
            for missing in GOOD
        ),
    ],
)
def test_json_of_the_wrong_shape_is_refused_with_a_message(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode(data)


def test_the_good_document_is_good() -> None:
    assert decode(json.dumps(GOOD).encode()) == _artifact(a=1)


@pytest.mark.parametrize("found", ["gatesync.artifact/2", "", "x" * 199])
def test_another_format_is_refused_by_name(found: str) -> None:
    with pytest.raises(FormatError, match=f"artifact format '{found}' is unknown"):
        decode(json.dumps({"format": found, "whatever": [1]}).encode())


@pytest.mark.parametrize(
    ("once", "twice"),
    [
        ('"kind": "sequence"', '"kind": "api", "kind": "sequence"'),
        ('"format": ', '"format": "other", "format": '),
        ('"text": ', '"text": "other", "text": '),
        ('"a": 1', '"a": 2, "a": 1'),
        ('"a": 1', '"a": {"b": 1, "c": [{"d": 1, "\\u0064": 1}]}'),
    ],
)
@pytest.mark.parametrize("spaced", [True, False])
def test_a_document_that_says_a_thing_twice_is_refused(once: str, twice: str, spaced: bool) -> None:
    document = json.dumps(GOOD, sort_keys=True)
    assert document.count(once) == 1
    document = document.replace(once, twice)
    if not spaced:
        document = document.replace(": ", ":").replace(", ", ",")
    with pytest.raises(FormatError, match=r"two members '(kind|format|text|a|d)'"):
        decode(document.encode())


@given(extras)
@example({"a": 1e16, "b": [-1e20, 2.0**53], "c": {"d": 1e300, "e": -0.0}})
def test_extra_comes_back_as_it_went(extra: dict[str, Any]) -> None:
    data = encode_extra(extra)
    assert decode_extra(data) == extra
    assert encode_extra(decode_extra(data)) == data


@pytest.mark.parametrize(
    "extra",
    [
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": 2**53},
        {"a": -(10**400)},
        {"a": "\ud800"},
        {"\ud800": 1},
        {1: 1},
        {"a": b""},
        {"a": object()},
    ],
)
def test_extra_that_json_cannot_carry_is_refused(extra: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="extra cannot be written"):
        encode_extra(extra)


def test_extra_without_end_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["a"] = endless
    with pytest.raises(FormatError, match="nested too deep"):
        encode_extra(endless)


@pytest.mark.parametrize("digits", ["9007199254740993", "1234567890123456789", "9" * 400])
def test_an_integer_that_no_double_stands_for_is_refused_not_rounded(digits: str) -> None:
    extra = decode_extra(f'{{"a":{digits}}}')
    with pytest.raises(FormatError, match="extra cannot be written"):
        encode_extra(extra)


@pytest.mark.timeout(20)
def test_a_member_repeated_among_very_many_is_found_in_one_pass() -> None:
    many = b",".join(b'"%d":0' % number for number in range(200_000))
    with pytest.raises(FormatError, match="two members '199999'"):
        refuse_repeated_members(b"{" + many + b',"199999":0}')
