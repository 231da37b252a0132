"""How a database is used: the numbers of it."""

import msgspec

__all__ = ["SqlOptions"]


class SqlOptions(msgspec.Struct, frozen=True):
    """All times are seconds.

    Args:
        deadline: what any call may take, waiting for locks and all tries included.
        connect_timeout: what a connection may take to come up.
        readers: connections that read at the same time; one more writes.
        recycle_after: connections older than that are replaced; -1 for never.
        busy_timeout: SQLite only: how long to wait for another process's transaction.
    """

    deadline: float = 30.0
    connect_timeout: float = 10.0
    readers: int = 4
    recycle_after: float = 1800.0
    busy_timeout: float = 10.0
