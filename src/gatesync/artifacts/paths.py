"""Paths made from names, reversibly, that every file system can hold and none can confuse.

Some file systems take `Menu` and `menu` for one name, or `é` in one character and in two; some
hold no `:`, no `con`, no trailing dot. Git and rsync carry paths between all of them. So:

    menu 1.0     menu 1.0               letters, digits, '-', '_', '.' and spaces are themselves
    a:b/é        a%3ab%2f%c3%a9         anything else is the hex of its UTF-8 bytes
    .git  con.x  %2egit  %63on.x        and so is what a file system reads something into
    MenuAPI      MenuAPI~71             which letters are capitals, as bits: the first is 1
    300 times a  aaa...a%/aaa...a       a step that ends with '%' goes on in the next

Two different names differ even when both are folded; a path that came back in lower case still
says its name.
"""

import re
from typing import Final

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import Identity

__all__ = ["decode_name", "encode_name", "folder_of"]

_STEP_MAX: Final = 180  # bytes; file systems hold 255, some hold less once they encrypt names
_EMPTY: Final = "~"

# What Windows takes for a device, with any extension.
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(?:\.|$)", re.I)
# What is hidden, vanishes, or is a device, where a step begins or ends with it.
_EDGES: Final = re.compile(r"^[. ]|[. ]$")
_TOKEN: Final = re.compile(r"%[0-9a-f]{2}|[A-Za-z0-9_. -]")


def folder_of(label: str, identity: Identity) -> str:
    """Where an artifact's folder stands among others: `<label>/<tenant>/<kind>/<name>/<version>`.

    No two artifacts of any labels share it, nor is one's above another's, on any file system.
    """
    names = (label, identity.tenant, identity.kind, identity.name, identity.version)
    return "/".join(encode_name(name) for name in names)


def encode_name(name: str) -> str:
    """One step of a path that says `name`, or several where it is too long for one.

    Raises:
        Problem: the name is not valid Unicode.
    """
    try:
        tokens = [token for character in name for token in _escaped(character)]
    except UnicodeEncodeError:
        raise Problem(f"name {name!r} is not valid Unicode") from None
    steps = [""]
    for token in tokens:
        if len(steps[-1]) + len(token) > _STEP_MAX:
            steps.append("")
        steps[-1] += token
    last = len(steps) - 1
    return "/".join(
        _safe(step) + _capitals(step) + ("" if at == last else "%") for at, step in enumerate(steps)
    )


def decode_name(path: str) -> str:
    """The name that `encode_name` made this path from, also after its letters were folded.

    Raises:
        Problem: it made no such path.
    """
    steps = path.split("/")
    data = b""
    for at, step in enumerate(steps):
        goes_on = step.endswith("%")
        if goes_on != (at < len(steps) - 1):
            raise _not_encoded(path)
        data += _decoded(step.removesuffix("%"), path)
    try:
        name = data.decode()
        whole = encode_name(name)
    except ValueError:
        raise _not_encoded(path) from None
    if whole.lower() != path.lower():
        raise _not_encoded(path)
    return name


def _escaped(character: str) -> list[str]:
    if character.isascii() and (character.isalnum() or character in "_. -"):
        return [character]
    return [f"%{byte:02x}" for byte in character.encode()]


def _safe(step: str) -> str:
    """The step without what a file system reads something into."""
    if _DEVICE.match(step):
        step = f"%{ord(step[0]):02x}{step[1:]}"
    return _EDGES.sub(lambda found: f"%{ord(found[0]):02x}", step)


def _capitals(step: str) -> str:
    """The bits of its capitals among its letters, or that it has nothing at all."""
    letters = [token for token in _TOKEN.findall(_safe(step)) if token.isalpha()]
    bits = sum(1 << at for at, letter in enumerate(letters) if letter.isupper())
    return f"~{bits:x}" if bits else "" if step else _EMPTY


def _decoded(step: str, path: str) -> bytes:
    text, tilde, mask = step.lower().partition("~")
    if not re.fullmatch("[0-9a-f]*", mask) or _TOKEN.sub("", text):
        raise _not_encoded(path)
    bits = int(mask or "0", 16) if tilde else 0
    data = b""
    for token in _TOKEN.findall(text):
        if token.isalpha():
            data += (token.upper() if bits & 1 else token).encode()
            bits >>= 1
        else:
            data += bytes.fromhex(token[1:]) if len(token) > 1 else token.encode()
    return data


def _not_encoded(path: str) -> Problem:
    return Problem("is no path that gatesync makes from a name", where=path)
