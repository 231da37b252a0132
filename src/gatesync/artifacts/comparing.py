"""Two artifacts compared for people: a unified diff for each file, and for what is in no file.

XML is compared as it is meant: each element on a line of its own, so that neither white space
between elements nor how a tag is written is a change. Text, comments, processing instructions and
CDATA are. Where text and elements mix, white space is text, and stays as it is.
"""

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from lxml import etree

from gatesync.artifacts.errors import FormatError, Problem
from gatesync.artifacts.extra import encode_extra
from gatesync.artifacts.model import Artifact, Part
from gatesync.artifacts.xml import parse

__all__ = ["compare"]


def compare(
    old: Artifact | None,
    new: Artifact | None,
    *,
    old_title: str,
    new_title: str,
    whitespace: bool = False,
) -> str:
    """What differs, as lines without a last line break; empty where nothing does.

    Control characters and what no terminal shows are written as escapes.

    Args:
        old: None where there was no artifact.
        new: None where there is none any more.
        old_title: where or when the old one is, for the head of each diff.
        new_title: likewise.
        whitespace: compare the bytes line by line, in XML too.
    """
    titles = _Titles(old_title, new_title)
    lines = list(_diff("artifact", _about(old, new), _about(new, old), titles))
    olds, news = _parts(old), _parts(new)
    for key in sorted(olds.keys() | news.keys()):
        lines += _diff_of_part(key[0], olds.get(key), news.get(key), titles, whitespace)
    return "\n".join(_shown(line) for line in lines)


class _Titles(NamedTuple):
    old: str
    new: str


def _parts(artifact: Artifact | None) -> dict[tuple[str, str], Part]:
    return {(part.path, part.role): part for part in artifact.parts} if artifact else {}


def _about(artifact: Artifact | None, other: Artifact | None) -> str | None:
    """What is in no file, as JSON; of parts only what the other artifact calls otherwise."""
    if artifact is None:
        return None
    identity, others = artifact.identity, _parts(other)
    about = {
        "api_id": artifact.api_id,
        "tenant": identity.tenant,
        "kind": identity.kind,
        "name": identity.name,
        "version": identity.version,
        "extra": _canonical(artifact.extra),
    }
    names = {
        path: part.name
        for (path, role), part in sorted(_parts(artifact).items())
        if (there := others.get((path, role))) and there.name != part.name
    }
    if names:
        about["parts"] = names
    return json.dumps(about, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _canonical(extra: dict[str, Any]) -> Any:
    """`extra` as it is stored, where 1 and 1.0 are one number; else as it is."""
    try:
        return json.loads(encode_extra(extra))
    except FormatError:
        return extra


def _diff_of_part(
    path: str, old: Part | None, new: Part | None, titles: _Titles, whitespace: bool
) -> Iterator[str]:
    if old and new and old.content == new.content:
        return
    before, after = old.content if old else b"", new.content if new else b""
    as_xml = _as_xml(before, after) if old and new and not whitespace else None
    if as_xml and as_xml[0] == as_xml[1]:
        yield (
            f"{path}: only white space between elements, or how it is written, differs; "
            "--whitespace shows it"
        )
    elif as_xml:
        yield from _diff(path, *as_xml, titles)
    elif not (before or after):
        yield f"{path}: an empty file is {'added' if new else 'removed'}"
    elif _is_text(before) and _is_text(after):
        before_text = _text(before) if old else None
        yield from _diff(path, before_text, _text(after) if new else None, titles)
    else:
        yield f"{path}: binary files differ, {len(before)} and {len(after)} bytes"


def _diff(name: str, old: str | None, new: str | None, titles: _Titles) -> Iterator[str]:
    for line in difflib.unified_diff(
        _lines(old or ""),
        _lines(new or ""),
        name if old is not None else "/dev/null",
        name if new is not None else "/dev/null",
        titles.old,
        titles.new,
    ):
        yield line.removesuffix("\n")
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"


def _lines(text: str) -> list[str]:
    """Lines as diff has them: what `splitlines` takes for more line breaks stays in its line."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _shown(line: str) -> str:
    """A line that any terminal takes."""
    return line if line.isprintable() else "".join(map(_shown_character, line))


def _shown_character(character: str) -> str:
    if character == "\t" or character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # a byte that is no UTF-8, as `_text` carries it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


# Bytes as text -------------------------------------------------------------------------------


def _is_text(content: bytes) -> bool:
    """UTF-8, or XML in another encoding."""
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return _as_xml(content, content) is not None


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _as_xml(old: bytes, new: bytes) -> tuple[str, str] | None:
    """Both in one form; None where one of them is no XML that has it."""
    try:
        return _indented(old), _indented(new)
    except Problem:
        return None


# XML in one form -----------------------------------------------------------------------------

_BLANK: Final = " \t\r\n"  # XML's white space: a no-break space is text
_BLANK_CDATA: Final = re.compile(r"<!\[CDATA\[[ \t\r\n]*\]\]>")
_SPACE: Final = "{http://www.w3.org/XML/1998/namespace}space"


def _indented(content: bytes) -> str:
    """The document with each element on a line of its own; raises `Problem` where it has none."""
    root = parse(content, "", keep_cdata=True)
    if _BLANK_CDATA.search(_written(root)):  # the tree cannot tell it from white space
        raise Problem("holds a CDATA section of white space")
    _indent(root, "\n")
    before = reversed(list(root.itersiblings(preceding=True)))
    return "".join(f"{_written(node)}\n" for node in (*before, root, *root.itersiblings()))


def _written(node: etree._Element) -> str:
    return etree.tostring(node, encoding="unicode", with_tail=False)


def _indent(element: etree._Element, line: str) -> None:
    """Put what stands in the element on lines of their own, unless text stands among it."""
    texts = (element.text, *(child.tail for child in element))
    mixed = any(text and text.strip(_BLANK) for text in texts)
    if mixed or len(element) == 0 or element.get(_SPACE) == "preserve":
        return
    inner = f"{line}  "
    element.text = inner
    for child in element:
        _indent(child, inner)
        child.tail = inner
    child.tail = line
