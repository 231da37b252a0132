"""Keys that gatesync does not know: mistakes are told from the rest of a WSO2 pack's file."""

from collections.abc import Collection, Iterator, Mapping
from difflib import SequenceMatcher, get_close_matches
from typing import Any

from gatesync.config.positions import KeyPath
from gatesync.config.reader import pattern

__all__ = ["find_unknown"]

# Tables that are about synchronization and nothing else. In them every unknown key is a mistake.
_OURS = (
    "gatesync",
    "apim.sync_runtime_artifacts",
    "apim.event_hub",
    "apim.gateway.environment",
    "database.sync_runtime_artifacts_db",
)
# What WSO2 itself reads in them, and gatesync does not.
_WSO2_ONLY = frozenset(
    {"apim.event_hub." + name for name in ("event_duplicate_url", "publish", "jms")}
    | {"secrets"}  # read through $secret{alias}, whatever the aliases are
    | {
        "apim.gateway.environment." + name
        for name in (
            "provider",
            "gateway_type",
            "display_in_api_console",
            "show_as_token_endpoint_url",
            "visibility",
            "virtual_host",
            "properties",
            "websub_event_receiver_http_endpoint",
            "websub_event_receiver_https_endpoint",
        )
    }
)
_NEAR_NAME = 0.6  # difflib's own default
_NEAR_TABLE_STEP = 0.8  # `apim_db` is not a slip for `shared_db`; `gatway` is one for `gateway`


def find_unknown(
    document: Mapping[str, Any], known: Collection[str]
) -> tuple[list[tuple[KeyPath, str]], tuple[str, ...]]:
    """The likely mistakes, each with a sentence, and the tables that are only WSO2's.

    Args:
        document: the parsed file.
        known: every key that gatesync reads, dotted, without array indexes.
    """
    mistakes: list[tuple[KeyPath, str]] = []
    ignored: dict[str, None] = {}
    tables = {key[:end] for key in known for end, char in enumerate(key) if char == "."}
    for path in _leaves(document, (), known):
        key = pattern(path)
        if key in known or key in tables or _within(key, _WSO2_ONLY):
            continue
        near = _nearest(key, known)
        if near:
            mistakes.append((path, f"is not a key that gatesync knows; did you mean {near}?"))
        elif _within(key, _OURS):
            mistakes.append((path, f"is not a key that gatesync knows; {_there(key, known)}"))
        else:
            ignored[pattern(path[:-1]) or key] = None
    return mistakes, tuple(ignored)


def _leaves(value: Any, path: KeyPath, known: Collection[str]) -> Iterator[KeyPath]:
    """The paths of all values; a known key is one value even when it is a table."""
    if isinstance(value, Mapping) and (value or not path) and pattern(path) not in known:
        for name, item in value.items():
            yield from _leaves(item, (*path, name), known)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index), known)
    elif path:
        yield path


def _nearest(key: str, known: Collection[str]) -> str | None:
    """The known key that was probably meant: a slip in the name, the table, or in both."""
    table, name = _table_of(key), key.rpartition(".")[2]
    tables = {_table_of(other) for other in known}
    if table in tables:
        close = get_close_matches(name, _names_in(table, known), 1, _NEAR_NAME)
        if close:
            return f"{table}.{close[0]}"
    for other in sorted(tables):
        if _near_steps(key, other):
            return f"[{other}]"
        if other != table and _near_steps(table, other):
            close = get_close_matches(name, _names_in(other, known), 1, _NEAR_NAME)
            return f"{other}.{close[0]}" if close else f"[{other}]"
    if _within(key, _OURS) or not table:
        same_name = [other for other in sorted(known) if other.endswith(f".{name}")]
        return next(iter(get_close_matches(key, same_name, 1, 0)), None)
    return None


def _near_steps(table: str, other: str) -> bool:
    steps, others = table.split("."), other.split(".")
    return len(steps) == len(others) and all(
        SequenceMatcher(None, step, known).ratio() >= _NEAR_TABLE_STEP
        for step, known in zip(steps, others, strict=True)
    )


def _there(key: str, known: Collection[str]) -> str:
    """What does stand in the key's table, or in the nearest table around it that is known."""
    table = _table_of(key)
    while table and not _names_in(table, known):
        table = _table_of(table)
    return f"[{table}] has {', '.join(_names_in(table, known))}" if table else "take it out"


def _names_in(table: str, known: Collection[str]) -> list[str]:
    return sorted(key.rpartition(".")[2] for key in known if _table_of(key) == table)


def _table_of(key: str) -> str:
    return key.rpartition(".")[0]


def _within(key: str, prefixes: Collection[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
