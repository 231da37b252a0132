"""What git says when it fails, in words that tell a person what to do."""

import re
from typing import Final

__all__ = ["explain", "is_cut", "is_damage", "is_outrun", "retry_after", "without_trace"]

# What git said: what a person is told. The first that matches counts.
_KNOWN: Final = {
    r"could not read (username|password)|authentication failed|invalid credentials"
    r"|HTTP Basic|returned error: 401": (
        "the server wants to know who asks, or does not accept who does; "
        "check username and password (or token)"
    ),
    r"returned error: 403": "whoever asks may not do that there; check what the token may do",
    r"host key verification failed|no \S+ host key is known": (
        "the server's host key is not among known_hosts; add it if it is the right one"
    ),
    r"permission denied \(publickey": (
        "the server does not accept the ssh key; check ssh_key, and what is registered there"
    ),
    r"returned error: 429|too many requests": "the server answers that we ask too often (429)",
    r"returned error: 5\d\d": "the server failed",
    r"repository .*not found|does not appear to be a git repository|returned error: 404": (
        "there is no such repository, or it is not shown to whoever asks; check url"
    ),
    r"could not resolve host|name or service not known|failure in name resolution": (
        "the host's name is not known; check url, and the network"
    ),
    r"certificate verification failed|certificate problem|certificate verify failed": (
        "the server's certificate is not one that is trusted here; check ca"
    ),
    r"connection refused|failed to connect|connection timed out|no route to host"
    r"|network is unreachable|couldn't connect": "the server cannot be reached",
    r"nothing came for": "the server has stopped answering",
    r"early EOF|hung up|RPC failed|disconnect|connection (was )?reset|transfer closed"
    r"|closed by remote host|broken pipe": "the connection broke off",
    r"protected branch|GH006|hook declined|push declined": (
        "the server does not let us push to this branch; let this user do so, "
        "or name another branch"
    ),
    r"denied to|permission to .* denied|insufficient permission|read-only": (
        "whoever pushes has no right to write there"
    ),
    r"no space left on device|disk quota": "there is no space left on the disk",
    r"transport '\w+' not allowed": "git is not to speak this protocol",
    r"dubious ownership": "the repository's folder belongs to another user",
    r"no such file or directory|not a git repository": "there is no repository there; check url",
}
_RETRY_AFTER: Final = re.compile(r"retry[- ]after:? *(\d+)", re.I)
_TRACED: Final = re.compile(r"[\d:.]+ http\.c:\d+ .*?(?:<= Recv header: (?P<header>.*))?$")
_OUTRUN: Final = re.compile(
    r"non-fast-forward|fetch first|\(stale info\)|cannot lock ref|failed to update ref"
    r"|incorrect old value|reference already exists",
    re.I,
)
_CUT: Final = re.compile(r"RPC failed|unexpected disconnect|early EOF", re.I)
_DAMAGE: Final = re.compile(
    r"bad object|corrupt|object file \S+ is empty|unable to read (?:tree|sha1|object|\w{40})|"
    r"missing (?:blob|tree|commit|object)|not a valid object|invalid object|inflate:|"
    r"packfile \S+ (?:cannot|does not|is|index)|bad tree object|bad revision|unknown revision|"
    r"could not parse|garbage at end|not a git repository|bad config|index file .* is too small|"
    r"unresolved deltas|did not (?:receive expected object|send all necessary objects)|"
    r"loose object|bad (?:pack|signature)",
    re.I,
)
_NOISE: Final = re.compile(
    r"^(?:remote: )?"
    r"(?:Enumerating|Counting|Compressing|Writing|Receiving|Resolving|Total|Delta|Unpacking)\b"
)


def explain(told: str) -> str:
    """One sentence: what is wrong as far as it is known, and what git said about it."""
    said = _last_words(told)
    for pattern, words in _KNOWN.items():
        if re.search(pattern, told, re.I):
            return f"{words} (git: {said})"
    return f"git says: {said}"


def retry_after(told: str) -> float | None:
    """How many seconds the server asks to be left alone, where git shows that."""
    found = _RETRY_AFTER.search(told)
    return float(found[1]) if found else None


def without_trace(told: str) -> str:
    """What git said without the trace of its HTTP, of which the last Retry-After is kept."""
    own, wait = [], ""
    for line in told.splitlines():
        if not (traced := _TRACED.match(line)):
            own.append(line)
        elif (header := traced["header"] or "").startswith("HTTP/"):  # another answer
            wait = ""
        elif retry_after(header) is not None:
            wait = header.strip()
    return "\n".join([wait, *own] if wait else own)


def is_outrun(told: str) -> bool:
    """Whether a push was refused because somebody else has pushed."""
    return bool(_OUTRUN.search(told))


def is_cut(told: str) -> bool:
    """Whether the connection to the server broke off in the middle of an answer."""
    return bool(_CUT.search(told))


def is_damage(told: str) -> bool:
    """Whether a local question failed because the clone is not whole."""
    return bool(_DAMAGE.search(told))


def _last_words(told: str) -> str:
    """What matters of what git said: its errors, on one line, no progress."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", told)]
    lines = [line for line in lines if line and not _NOISE.match(line)]
    weighty = [line for line in lines if re.match(r"fatal|error|remote:|ssh|\S+: ", line, re.I)]
    text = "; ".join((weighty or lines)[-3:]) or "nothing"
    return text if len(text) <= 400 else f"{text[:400]}..."
