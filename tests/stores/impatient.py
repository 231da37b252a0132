"""The SQL store with short time limits, as an adapter: so that tests of outages are short."""

from contextlib import AbstractAsyncContextManager

from gatesync.stores.sql import SqlOptions, SqlStore, open_sql_store
from gatesync.stores.sql_source import SqlSource

DEADLINE = 2.0  # seconds; 30 by default


def open_impatient_store(
    source: SqlSource, _options: SqlOptions
) -> AbstractAsyncContextManager[SqlStore]:
    """Open it; every call ends after `DEADLINE`."""
    return open_sql_store(source, SqlOptions(deadline=DEADLINE))
