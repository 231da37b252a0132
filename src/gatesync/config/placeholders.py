"""`$env{VAR}`, `$sys{name}`, `${name}`, `$ref{dotted.key}` and `$secret{alias}` inside values."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gatesync.config.problems import Invalid
from gatesync.config.secret import names_a_secret
from gatesync.config.secret_sources import SecretSources

__all__ = ["Placeholders", "Resolved"]

_PLACEHOLDER = re.compile(r"\$(env|ref|sys|secret|)\{([^{}]*)\}")
_UNCLOSED = re.compile(r"\$(?:env|ref|sys|secret)\{")
_RESULT_MAX_CHARS = 64 * 1024  # a few keys that refer to each other can grow exponentially

# What `${...}` may name without a variable of that name: a real pack's file uses these, and
# WSO2 fills them in itself. The ports are WSO2's own defaults, before the offset.
_WSO2_PORTS = {
    "mgt.transport.https.port": 9443,
    "mgt.transport.http.port": 9763,
    "https.nio.port": 8243,
    "http.nio.port": 8280,
}
_WSO2_REFERENCES = {
    "admin.username": "super_admin.username",
    "admin.password": "super_admin.password",
    "carbon.host": "server.hostname",
}
_WSO2_DEFAULTS = {"server.hostname": "localhost", "server.offset": 0}


class Resolved(msgspec.Struct, frozen=True):
    """A value with nothing left to fill in; `secret` when a part of it must not be shown."""

    value: Any
    secret: bool = False


class Placeholders:
    """Fills in what values refer to, from the environment and the document itself.

    Only values that are asked for are looked at: another part of the file may name variables
    that only WSO2 knows.

    Args:
        document: the parsed file.
        environ: environment variables.
        read_secret: reads an alias of `[gatesync.secrets]` from where the table says it is.
    """

    def __init__(
        self,
        document: Mapping[str, Any],
        environ: Mapping[str, str],
        read_secret: Callable[[str, Any], str] | None = None,
    ) -> None:
        self._document = document
        self._environ = environ
        self._read_secret = read_secret or SecretSources(None, environ).read
        self._read: dict[str, str | Invalid] = {}  # each is read once: a command may take a while

    def resolve(self, value: Any) -> Resolved:
        """The value with every placeholder in it, at any depth, filled in.

        A text that is one `$ref{...}` and nothing else takes on the type of what it refers to.
        Raises `Invalid` that names the variable, key or alias at fault.
        """
        return self._resolve(value, ())

    def _resolve(self, value: Any, chain: tuple[str, ...]) -> Resolved:
        if isinstance(value, str):
            return self._resolve_text(value, chain)
        if isinstance(value, list):
            items = [self._resolve(item, chain) for item in value]
            return Resolved([item.value for item in items], any(item.secret for item in items))
        if isinstance(value, dict):
            fields = {name: self._resolve(item, chain) for name, item in value.items()}
            return Resolved(
                {name: item.value for name, item in fields.items()},
                any(item.secret for item in fields.values()),
            )
        return Resolved(value)

    def _resolve_text(self, text: str, chain: tuple[str, ...]) -> Resolved:
        whole = _PLACEHOLDER.fullmatch(text)
        if whole:
            return self._fill(whole[1], whole[2], chain)
        pieces: list[str] = []
        size, end, secret = 0, 0, False
        for match in _PLACEHOLDER.finditer(text):
            filled = self._fill(match[1], match[2], chain)
            if isinstance(filled.value, list | dict):
                raise Invalid(f"{match[0]} is a list or a table and cannot stand inside a text")
            pieces += [text[end : match.start()], _as_text(filled.value)]
            size += len(pieces[-1])
            if size > _RESULT_MAX_CHARS:
                raise Invalid("grows beyond 64 KiB when its placeholders are filled in")
            secret, end = secret or filled.secret, match.end()
        unclosed = _UNCLOSED.search(_PLACEHOLDER.sub("", text))
        if unclosed:
            raise Invalid(f"has {unclosed[0]} without a closing brace")
        return Resolved("".join([*pieces, text[end:]]), secret)

    def _fill(self, sort: str, name: str, chain: tuple[str, ...]) -> Resolved:
        if not name:
            raise Invalid(f"has an empty placeholder ${sort}{{}}; write a name in the braces")
        if sort == "ref":
            return self._reference(name, chain)
        if sort == "secret":
            return self._secret(name, chain)
        if name in self._environ:
            return Resolved(self._environ[name], names_a_secret(name))
        if sort != "env":
            if name in _WSO2_PORTS:
                return Resolved(_WSO2_PORTS[name] + self._offset(chain))
            if name in _WSO2_REFERENCES:
                return self._reference(_WSO2_REFERENCES[name], chain)
        raise Invalid(
            f"needs the environment variable {name}, which is not set (${sort}{{{name}}}); set it"
        )

    def _reference(self, key: str, chain: tuple[str, ...]) -> Resolved:
        if key in chain:
            raise Invalid(f"refers to itself: {' → '.join([*chain, key])}")
        value: Any = self._document
        for step in key.split("."):
            if not isinstance(value, dict) or step not in value:
                if key in _WSO2_DEFAULTS:
                    return Resolved(_WSO2_DEFAULTS[key])
                raise Invalid(f"refers to {key}, which is not in this file; $ref{{{key}}}")
            value = value[step]
        resolved = self._resolve(value, (*chain, key))
        return Resolved(resolved.value, resolved.secret or names_a_secret(key.rpartition(".")[2]))

    def _secret(self, alias: str, chain: tuple[str, ...]) -> Resolved:
        """From where `[gatesync.secrets]` says, else from WSO2's `[secrets]`.

        That has `alias = "[plain text]"` until WSO2's cipher tool has run.
        """
        if f"$secret {alias}" in chain:
            raise Invalid(f"refers to itself: $secret{{{alias}}}")
        ours = self._document.get("gatesync")
        sources = ours.get("secrets") if isinstance(ours, dict) else None
        if isinstance(sources, dict) and alias in sources:
            given = self._resolve(sources[alias], (*chain, f"$secret {alias}")).value
            return Resolved(self._from_source(alias, given), secret=True)
        secrets = self._document.get("secrets")
        stored = secrets.get(alias) if isinstance(secrets, dict) else None
        if not isinstance(stored, str):
            raise Invalid(
                f"needs the secret {alias}, which is not in [gatesync.secrets]; "
                f'add {alias} = {{ file = "..." }} there, or {{ environment = "..." }}, or '
                '{ command = ["..."] }'
            )
        if not (stored.startswith("[") and stored.endswith("]")):
            raise Invalid(
                f"needs the secret {alias}, which [secrets] holds encrypted, for WSO2 alone; add "
                f'{alias} = {{ file = "..." }} to [gatesync.secrets], which goes first'
            )
        inner = self._resolve(stored[1:-1], (*chain, f"$secret {alias}"))
        return Resolved(inner.value, secret=True)

    def _from_source(self, alias: str, given: Any) -> str:
        if alias not in self._read:
            try:
                self._read[alias] = self._read_secret(alias, given)
            except Invalid as error:
                self._read[alias] = error
        found = self._read[alias]
        if isinstance(found, Invalid):
            raise Invalid(str(found))
        return found

    def _offset(self, chain: tuple[str, ...]) -> int:
        offset = self._reference("server.offset", chain).value
        return int(offset) if str(offset).isdecimal() else 0


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
