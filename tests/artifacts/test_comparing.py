"""What people see of a change: all that is one, and nothing that is none."""

from typing import Any
from xml.sax.saxutils import escape

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.canonical import encode
from gatesync.artifacts.comparing import compare
from gatesync.artifacts.model import Artifact, Identity, Part

from .strategies import artifacts

pytestmark = pytest.mark.fast


def _artifact(content: bytes | str, **changed: Any) -> Artifact:
    data = content.encode() if isinstance(content, str) else content
    part = Part("sequence", "a", "sequences/a.xml", data)
    whole = Artifact(Identity("carbon.super", "sequence", "a"), "id-1", (part,))
    return msgspec.structs.replace(whole, **changed)


def _policy(content: bytes) -> Artifact:
    part = Part("policy", "p", "executionplans/p.siddhi", content)
    return Artifact(Identity("carbon.super", "policy", "p"), "id-1", (part,))


def _compare(old: Artifact | None, new: Artifact | None, *, whitespace: bool = False) -> str:
    return compare(old, new, old_title="then", new_title="now", whitespace=whitespace)


def _changes(compared: str) -> list[str]:
    lines = compared.splitlines()
    return [line for line in lines if line[0] in "+-" and not line.startswith(("+++", "---"))]


def _xml_changes(old: bytes | str, new: bytes | str) -> list[str]:
    return _changes(_compare(_artifact(old), _artifact(new)))


# XML documents, and the many ways in which each can be written --------------------------------

_text = st.text("ab <&>'\"\u00e9\u00a0\n", max_size=6)
_attributes = st.dictionaries(st.sampled_from(["name", "level"]), _text, max_size=2)
_leaves = (
    st.tuples(st.just("element"), st.sampled_from("st"), _attributes, _text)
    | st.tuples(st.just("comment"), st.text("ab <\n", max_size=5))
    | st.tuples(st.just("instruction"), st.text("ab<", max_size=5))
    | st.tuples(st.just("cdata"), st.sampled_from("st"), st.text("ab<&\n", min_size=1, max_size=4))
).filter(lambda leaf: leaf[0] != "cdata" or not leaf[-1].isspace())
_nodes = st.recursive(
    _leaves,
    lambda inner: st.tuples(
        st.just("element"), st.sampled_from("st"), _attributes, st.lists(inner, min_size=1)
    ),
    max_leaves=8,
)
_roots = _nodes.filter(lambda node: node[0] == "element")


def _written(node: Any, draw: st.DrawFn | None = None) -> str:
    """The node as XML; with `draw` in any way that means the same."""

    def space(least: str = "") -> str:
        return least + draw(st.text(" \t\n", max_size=3)) if draw else least

    if node[0] == "comment":
        return f"<!--{node[1]}-->"
    if node[0] == "instruction":
        return f"<?p {node[1]}?>"
    if node[0] == "cdata":
        return f"<{node[1]}><![CDATA[{node[2]}]]></{node[1]}>"
    _, tag, attributes, inner = node
    said = "".join(
        space(" ") + f"{name}{space()}={space()}" + _quoted(value, draw)
        for name, value in sorted(attributes.items())
    )
    if isinstance(inner, str):
        body = escape(inner)
    else:
        body = space() + "".join(_written(child, draw) + space() for child in inner)
    if not body and draw and draw(st.booleans()):
        return f"<{tag}{said}{space()}/>"
    return f"<{tag}{said}{space()}>{body}</{tag}{space()}>"


def _quoted(value: str, draw: st.DrawFn | None) -> str:
    quote = draw(st.sampled_from("\"'")) if draw else '"'
    escaped = escape(value, {'"': "&quot;", "'": "&apos;", "\n": "&#10;"})
    return f"{quote}{escaped}{quote}"


@st.composite
def _written_twice(draw: st.DrawFn) -> tuple[str, str]:
    root = draw(_roots)
    return _written(root), _written(root, draw)


@given(_written_twice())
def test_however_xml_is_laid_out_it_is_no_change(written: tuple[str, str]) -> None:
    old, new = written
    compared = _compare(_artifact(old), _artifact(new))
    assert _changes(compared) == []
    assert bool(compared) == (old != new)  # that there is something to see is said all the same


@given(_roots, _roots)
def test_whatever_xml_says_otherwise_is_a_change(old: Any, new: Any) -> None:
    assert bool(_xml_changes(_written(old), _written(new))) == (old != new)


@given(st.none() | artifacts, st.none() | artifacts, st.booleans())
def test_all_that_differs_is_told_and_nothing_else(
    old: Artifact | None, new: Artifact | None, whitespace: bool
) -> None:
    compared = _compare(old, new, whitespace=whitespace)
    forms = [each and encode(each) for each in (old, new)]
    assert bool(compared) == (forms[0] != forms[1])
    assert all(c.isprintable() or c in "\t\n" for c in compared)
    for same in (old, new):
        assert _compare(same, same, whitespace=whitespace) == ""


def test_a_diff_is_unified_and_element_by_element() -> None:
    old = '<sequence name="a"><log level="full"/><drop/></sequence>'
    new = "<sequence name='a'>\n  <log level='custom'/>\n  <drop></drop>\n</sequence>\n"
    assert _compare(_artifact(old), _artifact(new)).splitlines() == [
        "--- sequences/a.xml\tthen",
        "+++ sequences/a.xml\tnow",
        "@@ -1,4 +1,4 @@",
        ' <sequence name="a">',
        '-  <log level="full"/>',
        '+  <log level="custom"/>',
        "   <drop/>",
        " </sequence>",
    ]


def test_white_space_is_told_in_one_line_and_shown_when_asked() -> None:
    old, new = _artifact("<a><b/></a>\n"), _artifact("<a>\r\n  <b/>\r\n</a>")
    assert _compare(old, new) == (
        "sequences/a.xml: only white space between elements, or how it is written, differs; "
        "--whitespace shows it"
    )
    assert _changes(_compare(old, new, whitespace=True)) == [
        "-<a><b/></a>",
        "+<a>\\r",
        "+  <b/>\\r",
        "+</a>",
    ]
    assert _compare(old, new, whitespace=True).endswith("\n\\ No newline at end of file")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<a>x <b/></a>", "<a>x  <b/></a>"),
        ("<a>x <b> <c/></b></a>", "<a>x <b><c/></b></a>"),
        ('<a xml:space="preserve"> <b/></a>', '<a xml:space="preserve"><b/></a>'),
        ("<a> </a>", "<a/>"),
        ("<a>\u00a0<b/></a>", "<a> <b/></a>"),
        ("<a><![CDATA[ ]]><b/></a>", "<a> <b/></a>"),
        ("<a><![CDATA[x]]></a>", "<a>x</a>"),
        ("<a><!-- x --></a>", "<a><!--x--></a>"),
        ("<!-- x --><a/>", "<a/>"),
        ("<a/><!-- x -->", "<a/>"),
        ("<a/>", "<?p x?><a/>"),
    ],
)
def test_white_space_in_text_and_what_stands_beside_elements_is_a_change(
    old: str, new: str
) -> None:
    assert _xml_changes(old, new)
    assert _xml_changes(new, old)


def test_xml_is_compared_by_its_letters_whatever_its_encoding() -> None:
    text = '<?xml version="1.0" encoding="{}"?><a>\u00e9</a>'
    old = text.format("ISO-8859-1").encode("latin-1")
    assert _xml_changes(old, text.format("UTF-8")) == []
    assert _xml_changes(old, old.replace(b"\xe9", b"\xe8")) == ["-<a>é</a>", "+<a>è</a>"]
    bytewise = _compare(_artifact(old), _artifact(old.replace(b"\xe9", b"\xe8")), whitespace=True)
    assert [line[-7:] for line in _changes(bytewise)] == ["\\xe9</a>"[1:], "\\xe8</a>"[1:]]


def test_what_is_no_xml_is_compared_by_lines() -> None:
    compared = _compare(_policy(b"define a;\nuse  a;\n"), _policy(b"define a;\nuse a;"))
    assert compared.splitlines()[2:] == [
        "@@ -1,2 +1,2 @@",
        " define a;",
        "-use  a;",
        "+use a;",
        "\\ No newline at end of file",
    ]


@pytest.mark.parametrize("new", [b"\xff\xfe", b"a\0b"])
def test_of_what_is_no_text_the_sizes_are_told(new: bytes) -> None:
    size = len(new)
    said = f"executionplans/p.siddhi: binary files differ, 6 and {size} bytes"
    assert _compare(_policy(b"text;\n"), _policy(new)) == said


def test_a_file_that_came_or_went_stands_against_dev_null() -> None:
    whole = _artifact("<sequence name='a'><drop/></sequence>")
    more = Part("endpoint", "e", "endpoints/e.xml", b"<endpoint  name='e'/>\n")
    both = msgspec.structs.replace(whole, parts=(more, *whole.parts))
    assert _compare(whole, both).splitlines() == [
        "--- /dev/null\tthen",
        "+++ endpoints/e.xml\tnow",
        "@@ -0,0 +1 @@",
        "+<endpoint  name='e'/>",
    ]
    assert "+++ /dev/null\tnow" in _compare(both, whole)
    gone = _compare(both, None)
    assert gone.count("+++ /dev/null\tnow") == 3
    assert '-  "api_id": "id-1",' in gone


def test_an_empty_file_that_came_or_went_is_told() -> None:
    empty = Part("policy", "q", "executionplans/q.siddhi", b"")
    one = _policy(b"text;\n")
    both = msgspec.structs.replace(one, parts=(*one.parts, empty))
    assert _compare(one, both) == "executionplans/q.siddhi: an empty file is added"
    assert _compare(both, one) == "executionplans/q.siddhi: an empty file is removed"


def test_what_is_in_no_file_is_compared_as_json() -> None:
    old = _artifact("<a/>", extra={"provider": "admin", "tags": ["x", "y"]})
    new = _artifact("<a/>", extra={"tags": ["x"], "provider": "admin"}, api_id="id-2")
    assert _changes(_compare(old, new)) == [
        '-  "api_id": "id-1",',
        '+  "api_id": "id-2",',
        '-      "x",',
        '-      "y"',
        '+      "x"',
    ]
    one, true = _artifact("<a/>", extra={"n": 1}), _artifact("<a/>", extra={"n": True})
    assert _changes(_compare(one, true)) == ['-    "n": 1', '+    "n": true']
    assert _compare(one, _artifact("<a/>", extra={"n": 1.0})) == ""
    renamed = Part("policy", "other", "executionplans/p.siddhi", b"x")
    policy = _policy(b"x")
    assert _changes(_compare(policy, msgspec.structs.replace(policy, parts=(renamed,)))) == [
        '-    "executionplans/p.siddhi": "p"',
        '+    "executionplans/p.siddhi": "other"',
    ]


def test_nothing_reaches_a_terminal_that_it_would_obey() -> None:
    old, new = _policy(b"x\n"), _policy(b"\x1b[2J \x9b \xc2\x9b \xe2\x80\xae\tend\n")
    assert "+\\x1b[2J \\x9b" not in _compare(old, new)  # not UTF-8: sizes only
    new = _policy("\x1b[2J \x9b \u202e\tend\n".encode())
    assert _changes(_compare(old, new))[1] == "+\\x1b[2J \\x9b \\u202e\tend"
    titled = compare(old, None, old_title="a\x1bb\nc", new_title="")
    assert titled.splitlines()[0] == "--- artifact\ta\\x1bb\\nc"
