"""Plaintext passwords in JSON become `$secret{alias}`: they never enter an artifact.

What is called `password`, in any letters and at any depth, is one. Its alias is the member `alias`
beside it, else where it stands: `endpointSecurity.production.password`. Messages name aliases and
places, never what stood there.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from gatesync.artifacts.errors import Problem

__all__ = ["Passwords", "plaintext_passwords"]

_REFERENCE: Final = re.compile(r"\$secret\{[^{}]+\}")
_NO_ALIAS: Final = re.compile(r"[{}]|[^ -~\xa1-\U0010ffff]")  # braces and controls


class Passwords:
    """The passwords of one document, for as long as it is read."""

    def __init__(self) -> None:
        self._by_alias: dict[str, str] = {}

    @property
    def aliases(self) -> tuple[str, ...]:
        """Whose values were plaintext: what operators must provide as secrets."""
        return tuple(sorted(self._by_alias))

    def hidden(self, value: Any, place: str) -> Any:
        """The value, with references instead of passwords.

        Args:
            value: any JSON.
            place: where it stands, `.`-separated. A list's entries are told apart by their
                `alias` or `name`, so that their order does not matter.

        Raises:
            Problem: a password is no text, has an alias that cannot be referred to, or one that
                another password has.
        """
        if isinstance(value, list):
            return [self.hidden(each, _inside(place, _entry_name(each))) for each in value]
        if not isinstance(value, dict):
            return value
        return {
            member: self._reference(inner, value.get("alias"), _inside(place, member))
            if member.lower() == "password"
            else self.hidden(inner, _inside(place, member))
            for member, inner in value.items()
        }

    def _reference(self, password: Any, alias: Any, place: str) -> str | None:
        if password is None:
            return None
        if not isinstance(password, str):
            raise Problem("a password must be text", where=place)
        if _REFERENCE.fullmatch(password):
            return password
        if not (isinstance(alias, str) and alias):
            alias = place
        if _NO_ALIAS.search(alias):
            reason = f"alias {alias!r} cannot stand in $secret{{...}}; give the password another"
            raise Problem(reason, where=place)
        if self._by_alias.setdefault(alias, password) != password:
            reason = f"another password has the alias {alias!r} too; give each its own 'alias'"
            raise Problem(reason, where=place)
        return f"$secret{{{alias}}}"


def plaintext_passwords(value: Any, place: str) -> Iterator[Problem]:
    """A problem for each password in this JSON that is neither a reference nor empty.

    For what comes in a form that `Passwords` does not read: to replace one would change the
    digest that its sender gave it.
    """
    waiting = [(value, place)]
    while waiting:
        each, where = waiting.pop()
        if isinstance(each, list):
            waiting += [(inner, _inside(where, _entry_name(inner))) for inner in each]
        elif isinstance(each, dict):
            for member, inner in each.items():
                inside = _inside(where, member)
                if member.lower() == "password" and _is_plaintext(inner):
                    reason = "a password in plain text; write $secret{alias} in its place"
                    yield Problem(reason, where=inside)
                waiting.append((inner, inside))


def _is_plaintext(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value) and not _REFERENCE.fullmatch(value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _entry_name(entry: Any) -> str:
    for member in ("alias", "name") if isinstance(entry, dict) else ():
        if isinstance(name := entry.get(member), str) and name:
            return name
    return ""


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place and name else place or name
