"""XML that strangers wrote, parsed so that it can do no harm.

What makes XML dangerous is declared in its DOCTYPE: entities that grow, entities that read files
or call servers. Synapse needs none, so a document that has one is refused before it is parsed.
"""

import codecs
import re
from typing import Final

from lxml import etree

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES

__all__ = ["XML_MAX_DEPTH", "parse"]

XML_MAX_DEPTH: Final = 256
"""How many elements may stand within each other, the root counted: libxml2's own limit.

The deepest of 701 real Synapse files has 21.
"""


def parse(content: bytes, where: str, *, keep_cdata: bool = False) -> etree._Element:
    """The root element of a document; `where` names it in messages.

    Nothing is expanded, loaded or fetched. Comments, CDATA and processing instructions may
    stand anywhere, and may say `<!DOCTYPE`. With `keep_cdata` the tree, when it is written,
    has its CDATA sections again; they are text otherwise.

    Raises:
        Problem: it is not well-formed, has a DOCTYPE, is larger than `ARTIFACT_MAX_BYTES`,
            is nested deeper than `XML_MAX_DEPTH` or is in an encoding that is not accepted.
    """
    if len(content) > ARTIFACT_MAX_BYTES:
        raise Problem(f"{len(content)} bytes; at most {ARTIFACT_MAX_BYTES}", where=where)
    text = _searchable(content, where)
    if not text or text.isspace():
        raise Problem("the document is empty", where=where)
    _refuse_doctype(text, where)
    large = len(content) > _SMALL
    try:
        root = etree.fromstring(content, _parsers[large, keep_cdata])
    except etree.XMLSyntaxError as error:
        raise _problem(error, where) from None
    tree = root.getroottree()
    if tree.docinfo.internalDTD is not None:  # the scan missed one: stay safe all the same
        raise Problem("a DOCTYPE is not accepted; remove it", where=where)
    if large and _is_too_deep(tree):
        raise Problem(_TOO_DEEP, where=where)
    return root


def _new_parser(*, large: bool, keep_cdata: bool) -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=large,
        collect_ids=False,
        strip_cdata=not keep_cdata,
    )


# libxml2 limits the depth to XML_MAX_DEPTH, and one text to 10 MB, unless it is told that a
# document is huge; then the depth is left to us. UTF-16 can grow by half inside the parser.
_SMALL: Final = 5_000_000
_parsers: Final = {
    (large, keep_cdata): _new_parser(large=large, keep_cdata=keep_cdata)
    for large in (False, True)
    for keep_cdata in (False, True)
}
_is_too_deep: Final = etree.XPath(f"boolean({'/*' * (XML_MAX_DEPTH + 1)})")
_TOO_DEEP: Final = f"elements are nested more than {XML_MAX_DEPTH} deep"

# In these a '<' is the byte 0x3C, so the prolog can be read before the parser sees it. Of what
# else libxml2 knows, UTF-7 and EBCDIC could hide a DOCTYPE.
_ENCODING: Final = re.compile(r"utf-?8|us-ascii|ascii|iso-8859-\d+|latin-?1|windows-125\d", re.I)
_DECLARATION: Final = re.compile(rb"<\?xml\s[^>]*?encoding\s*=\s*[\"']([^\"'>]*)[\"']")
_NOT_BLANK: Final = re.compile(r"\S")
_TRAILER: Final = re.compile(r"\n?, line \d+, column \d+.*", re.S)


def _searchable(content: bytes, where: str) -> str:
    """The document as text in which markup can be searched; letters may come out wrong."""
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise Problem("encoding UTF-32 is not accepted; save it as UTF-8", where=where)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError as error:
            raise Problem(f"broken UTF-16 at byte {error.start}", where=where) from None
    body = content.removeprefix(codecs.BOM_UTF8)
    nul = body.find(0)
    if nul >= 0:
        line = body.count(b"\n", 0, nul) + 1
        raise Problem("contains a NUL byte; save it as UTF-8", where=where, line=line)
    declared = _DECLARATION.match(body)
    if declared and not _ENCODING.fullmatch(name := declared[1].decode("latin-1")):
        reason = f"encoding {name!r} is not accepted; save it as UTF-8"
        raise Problem(reason, where=where, line=1)
    return body.decode("latin-1")


def _refuse_doctype(text: str, where: str) -> None:
    """Step over comments and instructions, which is all that may stand before a DOCTYPE."""
    at = 0
    while found := _NOT_BLANK.search(text, at):
        at = found.start()
        if text.startswith("<!--", at):
            end = text.find("-->", at + 4)
        elif text.startswith("<?", at):
            end = text.find("?>", at + 2)
        else:
            break
        if end < 0:
            return  # never closed: the parser will say so
        at = text.index(">", end) + 1
    if text.startswith("<!DOCTYPE", at):
        raise Problem(
            "a DOCTYPE is not accepted, since it can declare entities; remove it",
            where=where,
            line=text.count("\n", 0, at) + 1,
        )


def _problem(error: etree.XMLSyntaxError, where: str) -> Problem:
    message = _TRAILER.sub("", str(error.msg))
    reason = (
        _TOO_DEEP if message.startswith("Excessive depth") else f"not well-formed XML: {message}"
    )
    return Problem(reason, where=where, line=error.lineno or 0)
