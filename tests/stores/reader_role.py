"""The user that docs/databases.md makes for gateways, made in a test's database."""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

PAGE = (Path(__file__).parents[2] / "docs" / "databases.md").read_text()
SECTION = PAGE.split("## Gateways that read the database")[1]
_numbers = itertools.count()


@contextmanager
def reader_of(url: str) -> Iterator[str]:
    """The URL of a user who may only read; SQLite has no users. The tables must be there."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        yield url
        return
    name = f"gatesync_reader{next(_numbers)}"
    driver = "psycopg" if parsed.get_backend_name() == "postgresql" else "pymysql"
    admin = create_engine(
        parsed.set(drivername=f"{parsed.get_backend_name()}+{driver}"),
        isolation_level="AUTOCOMMIT",
    )
    undo = f"DROP OWNED BY {name}; DROP ROLE {name}" if driver == "psycopg" else f"DROP USER {name}"
    with admin.connect() as connection:
        for statement in statements(parsed.get_backend_name()):
            connection.execute(text(statement.replace("gatesync_reader", name)))
        try:
            yield parsed.set(username=name, password="secret").render_as_string(hide_password=False)
        finally:
            for each in undo.split("; "):
                connection.execute(text(each))
    admin.dispose()


def statements(backend: str) -> list[str]:
    """What the page has administrators run."""
    postgresql, mysql = re.findall(r"```sql\n(.*?)```", SECTION, re.DOTALL)
    block = postgresql if backend == "postgresql" else mysql
    return [each.strip() for each in block.split(";") if each.strip()]
