import codecs
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts import xml
from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES
from gatesync.artifacts.xml import XML_MAX_DEPTH, parse

pytestmark = pytest.mark.fast

LAUGHS = b"".join(
    b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10 if n else b"lol") for n in range(20)
)
BOMB = b"<!DOCTYPE a [" + LAUGHS + b"]><a>&l19;</a>"
DOCTYPES = {
    "entity bomb": BOMB,
    "entity bomb in an attribute": b"<!DOCTYPE a [" + LAUGHS + b']><a b="&l19;"/>',
    "quadratic blowup": b'<!DOCTYPE a [<!ENTITY x "'
    + b"x" * 100_000
    + b'">]><a>'
    + b"&x;" * 10_000
    + b"</a>",
    "external entity": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    "external DTD": b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><a/>',
    "parameter entity": b'<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]><a/>',
    "empty DOCTYPE": b"<!DOCTYPE a><a/>",
    "after comments and instructions": b'<?xml version="1.0"?><!-- > --> <?p x?>\n' + BOMB,
    "after a UTF-8 mark": codecs.BOM_UTF8 + BOMB,
    "UTF-16 little-endian": codecs.BOM_UTF16_LE + BOMB.decode().encode("utf-16-le"),
    "UTF-16 big-endian": codecs.BOM_UTF16_BE + BOMB.decode().encode("utf-16-be"),
    "ISO-8859-1": b'<?xml version="1.0" encoding="ISO-8859-1"?>' + BOMB,
}


@pytest.mark.parametrize("document", DOCTYPES.values(), ids=DOCTYPES.keys())
def test_a_doctype_is_refused_before_the_parser_sees_it(
    document: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(xml.etree, "fromstring", never)
    with pytest.raises(Problem, match=r"^sequences/a\.xml:\d+: a DOCTYPE is not accepted"):
        parse(document, "sequences/a.xml")


@pytest.mark.parametrize("document", DOCTYPES.values(), ids=DOCTYPES.keys())
def test_a_doctype_that_the_scan_missed_does_no_harm(
    document: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xml, "_refuse_doctype", lambda *_: None)
    with pytest.raises(Problem) as refused:
        parse(document, "a.xml")
    assert "root:" not in str(refused.value)


def test_the_line_of_a_doctype_is_named() -> None:
    with pytest.raises(Problem) as refused:
        parse(b"<!-- one\ntwo -->\n\n<!DOCTYPE a><a/>", "a.xml")
    assert (refused.value.where, refused.value.line) == ("a.xml", 4)


@pytest.mark.parametrize(
    "document",
    [
        b"<a><![CDATA[<!DOCTYPE html>]]></a>",
        b"<!-- <!DOCTYPE a> --><a/>",
        b"<!---><!DOCTYPE a> --><a/>",
        b"<?p <!DOCTYPE a> ?><a/>",
        b"<a><!-- <!DOCTYPE a> --></a>",
        b'<a b="&lt;!DOCTYPE a>"/>',
        b"<a/><!-- <!DOCTYPE a> -->",
    ],
)
def test_a_doctype_that_is_only_mentioned_is_fine(document: bytes) -> None:
    assert parse(document, "a.xml").tag == "a"


@pytest.mark.parametrize(
    "document",
    [
        "<a>é</a>".encode(),
        codecs.BOM_UTF8 + b"<?xml version='1.0'?><a/>",
        "<a>é</a>".encode("utf-16"),
        '<?xml version="1.0" encoding="ISO-8859-1"?><a>é</a>'.encode("latin-1"),
        '<?xml version="1.0" encoding="windows-1252"?><a>€</a>'.encode("cp1252"),
        b"\r\n\t <a>\r\n</a>\r\n",
    ],
)
def test_encodings_and_line_ends_of_the_field_are_read(document: bytes) -> None:
    assert parse(document, "a.xml").tag == "a"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "empty"),
        (b" \r\n", "empty"),
        (codecs.BOM_UTF8, "empty"),
        (codecs.BOM_UTF16_LE, "empty"),
        (b"\0", "NUL"),
        (b"<a>\0</a>", "NUL"),
        (b"<a/>\0", "NUL"),
        ("<a/>".encode("utf-16-le"), "NUL"),
        (codecs.BOM_UTF16_LE + b"<\0\x00\xd8", "UTF-16"),
        ("<a/>".encode("utf-32"), "UTF-32"),
        (b'<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE a+AD4-<a/>', "UTF-7"),
        (b"<?xml version='1.0' encoding='IBM037'?><a/>", "IBM037"),
        (b"hello", "not well-formed"),
        (b"<a>", "not well-formed"),
        (b"<a><b></a></b>", "not well-formed"),
        (b"<a>\xff</a>", "not well-formed"),
        (b"<a>&undeclared;</a>", "not well-formed"),
        (b"<depth></a>", "not well-formed"),
        (b"<a/><a/>", "not well-formed"),
        (b"<x:a/>", "not well-formed"),
        (b'<a b="1" b="2"/>', "not well-formed"),
        (b"<!-- never closed", "not well-formed"),
        (b"<!doctype a><a/>", "not well-formed"),
        (b"<a/><!DOCTYPE a>", "not well-formed"),
        (b"<" + b"a" * 100_000 + b"/>", "not well-formed"),
    ],
)
def test_what_is_no_document_is_refused_with_its_place(document: bytes, reason: str) -> None:
    with pytest.raises(Problem, match=reason) as refused:
        parse(document, "api/a.xml")
    assert refused.value.where == "api/a.xml"


def test_the_line_of_a_fault_is_named_once() -> None:
    with pytest.raises(Problem) as refused:
        parse(b"<a>\n<b>\n</a>", "api/a.xml")
    assert refused.value.line == 3
    assert str(refused.value).startswith("api/a.xml:3: ")
    assert "column" not in str(refused.value)


def _nested(depth: int, text: bytes = b"") -> bytes:
    return b"<a>" * depth + text + b"</a>" * depth


def test_elements_may_stand_within_each_other_up_to_the_limit() -> None:
    assert parse(_nested(XML_MAX_DEPTH), "a.xml").tag == "a"


@pytest.mark.parametrize("depth", [XML_MAX_DEPTH + 1, 10_000, 1_000_000])
def test_elements_nested_too_deep_are_refused(depth: int) -> None:
    with pytest.raises(Problem, match=r"a\.xml:1: elements are nested more than 256 deep"):
        parse(_nested(depth), "a.xml")


@pytest.mark.parametrize("depth", [XML_MAX_DEPTH + 1, 10_000])
def test_a_large_document_may_not_be_deeper(depth: int) -> None:
    with pytest.raises(Problem, match="nested more than 256 deep"):
        parse(_nested(depth, b"x" * 6_000_000), "a.xml")


def test_one_text_may_fill_the_largest_artifact() -> None:
    document = _nested(XML_MAX_DEPTH, b"x" * (ARTIFACT_MAX_BYTES - 7 * XML_MAX_DEPTH))
    assert len(document) == ARTIFACT_MAX_BYTES
    assert parse(document, "a.xml").tag == "a"


def test_sixteen_mebibytes_are_refused() -> None:
    with pytest.raises(Problem, match="16777216 bytes; at most 15728640"):
        parse(b"<a>" + b"x" * (16 * 1024 * 1024 - 7) + b"</a>", "a.xml")


def test_blanks_before_the_root_cost_little() -> None:
    assert parse(b" " * 10_000_000 + b"<a/>", "a.xml").tag == "a"


@pytest.mark.timeout(20)
def test_an_element_with_a_hundred_thousand_attributes_takes_no_long_time() -> None:
    many = b" ".join(b'a%d=""' % n for n in range(100_000))
    assert len(parse(b"<a " + many + b"/>", "a.xml").attrib) == 100_000


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
def test_whatever_is_handed_in_the_answer_is_an_element_or_a_problem(document: bytes) -> None:
    with contextlib.suppress(Problem):
        parse(document, "a.xml")


_pieces = st.sampled_from(
    [b"<?xml version='1.0'?>", b"<!-- x -->", b"<!-- <!DOCTYPE a> -->", b"<!-->", b"-->", b"<?p?>",
     b"<?p <a> ?>", b"<!DOCTYPE a>", b"<!DOCTYPE a [<!ENTITY e 'x'>]>", b"<a/>", b"<a>", b"</a>",
     b" ", b"\n", b"&e;", b"<![CDATA[", b"]]>", b"\xef\xbb\xbf", b"<", b"?>"]
)  # fmt: skip


@given(st.lists(_pieces, max_size=8).map(b"".join))
def test_no_document_with_a_doctype_comes_through(document: bytes) -> None:
    try:
        root = parse(document, "a.xml")
    except Problem:
        return
    assert root.getroottree().docinfo.internalDTD is None
