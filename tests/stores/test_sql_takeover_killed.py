"""A takeover that is killed between its statements, and run again: as if nothing had been."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gatesync.publisher.taking_over import publish_of_row
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_takeover import take_over
from tests.servers.database import Databases
from tests.stores.budget import BUDGET
from tests.stores.wso2_tables import Row, make_wso2_tables, row, rows_of

KILLS = max(2, round(7 * BUDGET))
QUERIES = (
    "SELECT ID, SCHEMA_FORMAT FROM GS_STORE",
    "SELECT GATEWAY_LABEL, REVISION, DIGEST, ARTIFACT_COUNT, FLOOR FROM GS_HEAD",
    "SELECT * FROM GS_CHANGE_SET",
    "SELECT * FROM GS_CHANGE",
    "SELECT * FROM GS_CLAIM",
    "SELECT * FROM GS_REFERENCE",
    "SELECT * FROM GS_TAKEN_OVER",
    "SELECT * FROM GS_WSO2_API_ARTIFACTS",
    "SELECT * FROM GS_WSO2_API_DETAILS",
    "SELECT * FROM AM_GW_PUBLISHED_API_DETAILS",
    "SELECT GATEWAY_LABEL, API_ID, ARTIFACT, GATEWAY_INSTRUCTION, REVISION, DIGEST"
    " FROM AM_GW_API_ARTIFACTS",
)


def rows() -> list[Row]:
    made = [
        row(label, f"{name}{number}", minute=number)
        for label in ("Shop", "Café")
        for number, name in enumerate("ABCDE")
    ]
    made.append(row("Shop", "Gone", minute=3, instruction="Remove"))
    made.append(Row("Shop", "broken", b'{"name":', minute=4))
    return made


def outcome(url: str) -> list[Any]:
    return [sorted(map(repr, rows_of(url, query))) for query in QUERIES]


def run(url: str, kill_before: int) -> int:
    command = [sys.executable, "-m", "tests.stores.interrupted_takeover", url, str(kill_before)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in {0, -9}, done.stderr
    return done.returncode


@contextmanager
def made(databases: Databases, content: list[Row]) -> Iterator[str]:
    with databases.database() as url:
        make_wso2_tables(url, content)
        yield url


@pytest.mark.timeout(300)
async def test_a_takeover_that_was_killed_goes_on_where_it_was(databases: Databases) -> None:
    content = rows()
    with made(databases, content) as whole:
        assert await take_over(whole, SqlOptions(), publish_of_row)
        expected = outcome(whole)
    seed = random.randrange(1_000_000)
    chance = random.Random(seed)
    killed = 0
    while killed < KILLS:
        with made(databases, content) as url:
            while code := run(url, chance.randint(1, 70 + 40 * killed)):
                assert code == -9
                killed += 1
            assert outcome(url) == expected, f"seed {seed}"


async def test_two_at_once_share_the_work(databases: Databases) -> None:
    content = rows()
    with made(databases, content) as whole:
        assert await take_over(whole, SqlOptions(), publish_of_row)
        expected = outcome(whole)
    with made(databases, content) as url:
        both = [take_over(url, SqlOptions(), publish_of_row, batch_rows=1) for _ in range(2)]
        for done in await asyncio.gather(*both):
            assert done is not None
            assert len(done.rows) == len(content)
        assert outcome(url) == expected
