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

A path that people gave is kept where it can be (`places_of`): readable before uniform.
"""

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache
from typing import Final

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import Identity

__all__ = [
    "decode_name",
    "encode_name",
    "exact_name",
    "folded",
    "folder_of",
    "is_portable",
    "places_of",
]

_STEP_MAX: Final = 180  # bytes; file systems hold 255, some hold less once they encrypt names
_EMPTY: Final = "~"

# What Windows takes for a device, with any extension.
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(?:\.|$)", re.I)
# What is hidden, vanishes, or is a device, where a step begins or ends with it.
_EDGES: Final = re.compile(r"^[. ]|[. ]$")
_TOKEN: Final = re.compile(r"%[0-9a-f]{2}|[A-Za-z0-9_. -]")
_PLAIN: Final = re.compile(rf"[A-Za-z0-9_-](?:[A-Za-z0-9_. -]{{0,{_STEP_MAX - 2}}}[A-Za-z0-9_-])?")
_NOT_ON_WINDOWS: Final = re.compile(r'[<>:"|?*\\]')


def folder_of(label: str, identity: Identity) -> str:
    """Where an artifact's folder stands among others: `<label>/<tenant>/<kind>/<name>/<version>`.

    No two artifacts of any labels share it, nor is one's above another's, on any file system.
    """
    names = (label, identity.tenant, identity.kind, identity.name, identity.version)
    return "/".join(encode_name(name) for name in names)


def places_of(paths: Collection[str], reserved: str) -> dict[str, str]:
    """Where these paths, that check accepts, can lie together in a folder on any file system.

    A path that is portable lies where it says. One that is not, or that a file system could take
    for another of them or for a folder above another, lies where the encoded names of its steps
    say. None lies at `reserved`, nor below it.
    """
    encoded = {path for path in paths if not all(map(is_portable, path.split("/")))}
    while True:
        places = {path: _place(path, reserved, path in encoded) for path in paths}
        clashing = _clashing(places, reserved)
        if clashing <= encoded:
            return places
        encoded |= clashing


def is_portable(step: str) -> bool:
    """Whether any file system holds this step of a path, as long as nothing folds with it."""
    return (
        step.isprintable()  # some file systems pass over marks that nobody sees
        and unicodedata.is_normalized("NFC", step)  # what Git makes of names on macOS
        and len(step.encode()) <= _STEP_MAX
        and not (_NOT_ON_WINDOWS.search(step) or _DEVICE.match(step) or _EDGES.search(step))
    )


def folded(path: str) -> str:
    """The same for all paths that some file system may take for one."""
    if path.isascii():
        return path.lower()
    for _ in range(2):  # a second time: upper case of some letters decomposes further
        path = unicodedata.normalize("NFKD", path).upper().casefold()
    return unicodedata.normalize("NFKD", path)


def encode_name(name: str) -> str:
    """One step of a path that says `name`, or several where it is too long for one.

    Raises:
        Problem: the name is not valid Unicode.
    """
    if _PLAIN.fullmatch(name) and not _DEVICE.match(name):  # as most are, of very many
        letters = [letter for letter in name if letter.isalpha()]
        bits = sum(1 << at for at, letter in enumerate(letters) if letter.isupper())
        return f"{name}~{bits:x}" if bits else name
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


@lru_cache(16_384)
def exact_name(path: str) -> str | None:
    """The name whose `encode_name` is this very path; None where there is none."""
    steps = path.split("/")
    try:
        data = b"".join(_decoded(step.removesuffix("%"), path) for step in steps)
        name = data.decode()
        return name if encode_name(name) == path else None
    except ValueError:  # a Problem is one
        return None


def _place(path: str, reserved: str, encoded: bool) -> str:
    if not encoded:
        return path
    first, *below = path.split("/")
    # The encoded name of what is reserved may be itself.
    start = f"%{ord(first[0]):02x}{first[1:]}" if first == reserved else encode_name(first)
    return "/".join([start, *map(encode_name, below)])


def _clashing(places: dict[str, str], reserved: str) -> set[str]:
    """The paths whose places, or the folders above them, are spelled in more than one way."""
    spelled: dict[str, set[tuple[str, str]]] = {folded(reserved): {(reserved, "/")}}
    users: dict[str, set[str]] = {}
    for path, place in places.items():
        steps = place.split("/")
        for end in range(1, len(steps) + 1):
            above = "/".join(steps[:end])
            key = folded(above)
            user = path if end == len(steps) else ""  # folders may be shared, files may not
            spelled.setdefault(key, set()).add((above, user))
            users.setdefault(key, set()).add(path)
    return {path for key, paths in users.items() if len(spelled[key]) > 1 for path in paths}


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
