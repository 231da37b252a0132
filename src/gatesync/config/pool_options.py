"""`[database.*.pool_options]`: the names of Tomcat's connection pool, by what they mean here.

The store needs few connections: one writes, each of the others reads, and all stay open.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from gatesync.config import kinds
from gatesync.config.problems import Invalid
from gatesync.stores.sql_options import SqlOptions

__all__ = ["read_pool"]

Say = Callable[[str, str], None]

_MOST = 1_000  # of one process; a database would refuse before
_USED: Mapping[str, kinds.Kind[Any]] = {
    "maxActive": kinds.whole(2, _MOST),
    "maxAge": kinds.milliseconds(0),
}
# What happens here in any case, or makes no difference to who wrote it.
_PASSED_OVER = (
    "commitOnReturn", "defaultAutoCommit", "fairQueue", "initialSize", "jmxEnabled", "logAbandoned",
    "logValidationErrors", "maxIdle", "minIdle", "name", "rollbackOnReturn", "testOnBorrow",
    "testOnConnect", "testOnReturn", "testWhileIdle", "useDisposableConnectionFacade", "useEquals",
    "useLock", "validationInterval", "validationQuery", "validationQueryTimeout",
)  # fmt: skip
_NO_EVICTION = "the store's few connections stay open; maxAge says for how long"
_NO_ABANDONING = "no connection of gatesync is left without an end: each transaction has a timeout"
_ELSEWHERE = "it stands in the table above, beside url"
_NOT_DONE: Mapping[str, str] = {
    "abandonWhenPercentageFull": _NO_ABANDONING,
    "accessToUnderlyingConnectionAllowed": "it is Java's",
    "alternateUsernameAllowed": "there is one user",
    "connectionProperties": "write what it says as parameters of the url",
    "dataSourceJNDI": "it is Java's",
    "defaultCatalog": "the url names the database",
    "defaultReadOnly": "the store has to write",
    "defaultTransactionIsolation": "the store sets what each transaction needs",
    "driverClassName": _ELSEWHERE,
    "ignoreExceptionOnPreLoad": "connections are opened when they are needed",
    "initSQL": "the store sets what each connection needs",
    "jdbcInterceptors": "they are Java classes",
    "maxWait": "nobody waits for a connection alone: each call has 30 s in all",
    "minEvictableIdleTimeMillis": _NO_EVICTION,
    "numTestsPerEvictionRun": _NO_EVICTION,
    "password": _ELSEWHERE,
    "propagateInterruptState": "it is Java's",
    "removeAbandoned": _NO_ABANDONING,
    "removeAbandonedTimeout": _NO_ABANDONING,
    "suspectTimeout": _NO_ABANDONING,
    "timeBetweenEvictionRunsMillis": _NO_EVICTION,
    "url": _ELSEWHERE,
    "username": _ELSEWHERE,
    "validatorClassName": "it is a Java class",
}


def read_pool(options: Mapping[str, object], problem: Say, warn: Say) -> SqlOptions:
    """How the store is to use its database.

    Args:
        options: Tomcat's names and values; a value may be in quotes.
        problem: told of an option whose value cannot be: its name, and what is wrong.
        warn: told of an option that is not used: its name, and why.
    """
    found: dict[str, int] = {}
    for name, value in options.items():
        if name in _USED:
            try:
                found[name] = _USED[name](value)
            except Invalid as error:
                problem(name, f"{error}; it is {value!r}")
        elif name not in _PASSED_OVER:
            warn(name, _unused(name))
    usual = SqlOptions()
    age = found.get("maxAge", 0)
    return SqlOptions(
        readers=found["maxActive"] - 1 if "maxActive" in found else usual.readers,
        recycle_after=age / 1000 if age else usual.recycle_after,
    )


def _unused(name: str) -> str:
    if name in _NOT_DONE:
        return f"has no effect: {_NOT_DONE[name]}"
    near = get_close_matches(name, (*_USED, *_PASSED_OVER, *_NOT_DONE), 1)
    return "is not an option that gatesync knows" + (
        f"; did you mean {near[0]}?" if near else "; it has no effect"
    )
