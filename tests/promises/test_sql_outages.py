"""A database that dies, hangs, refuses or fills up, under a real cluster.

Each time: `publish` says why in time and nothing is half-done, the publisher's health says what
is wrong, gateways serve on; and afterwards the next publish goes through, everybody converges,
and no process was started again.
"""

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from gatesync.stores.sql import SqlOptions, open_sql_store
from gatesync.stores.sql_source import DatabaseHost
from tests.promises.outage import PASSWORD, SERVERS, Cluster, cluster_on
from tests.servers.gatesync import ask, until
from tests.servers.proxy import Cut, Way, proxy_to

STOP_SECONDS = 10  # of a process whose database hangs; it gives up after 2

pytestmark = [pytest.mark.promise(3), pytest.mark.promise(4), pytest.mark.timeout(240)]


@pytest.fixture(scope="module", params=SERVERS)
def everything(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """One cluster for all outages of this page."""
    with cluster_on(request.param, tmp_path_factory.mktemp("outages")) as cluster:
        cluster.published("steady", text())
        yield cluster


@pytest.fixture
def cluster(everything: Cluster) -> Iterator[Cluster]:
    """The cluster, in step again after each outage, and made of the same processes."""
    pids = [role.pid for role in everything.roles]
    yield everything
    everything.recovers()
    everything.published("steady", text())
    assert [role.pid for role in everything.roles if role.alive] == pids
    assert [role.arguments[0] for role in everything.roles if PASSWORD in role.said()] == []


def text() -> str:
    return f"{random.getrandbits(64):x}"


def test_a_database_that_is_killed_and_started_again(cluster: Cluster) -> None:
    before = cluster.head()
    cluster.server.process.kill()
    cluster.proxy.go()
    cluster.refused("steady", text(), "refused")
    cluster.says("store", "refused", status=503)
    until(cluster.is_stale, "the gateways' proofs grow old")
    cluster.serves_on()
    cluster.server.process.start()
    cluster.proxy.come()
    cluster.recovers()
    assert cluster.head() == before


def test_nobody_notices_connections_that_died_while_nothing_was_asked(cluster: Cluster) -> None:
    os.kill(cluster.publisher.pid, signal.SIGSTOP)
    try:
        cluster.server.process.kill()
        cluster.server.process.start()
    finally:
        os.kill(cluster.publisher.pid, signal.SIGCONT)
    done = cluster.published("steady", text())
    assert done.err == ""


def test_a_database_that_hangs(cluster: Cluster) -> None:
    before, words = cluster.head(), text()
    cluster.server.process.freeze()
    try:
        cluster.refused("steady", words, "no answer within|timeout|timed out")
        cluster.says("store", "no answer|timeout|timed out", status=503)
    finally:
        cluster.server.process.thaw()
    cluster.recovers()
    assert cluster.head() == before


def test_a_publisher_stops_in_time_though_its_database_hangs(cluster: Cluster) -> None:
    with cluster.another_publisher() as (publisher, url):
        cluster.server.process.freeze()
        try:
            until(lambda: ask(url, "/health/ready").status == 503, "it has noticed")
            began = time.monotonic()
            assert publisher.stop() == 0
            assert time.monotonic() - began < STOP_SECONDS
        finally:
            cluster.server.process.thaw()


@pytest.mark.parametrize("ways", [(Way.ANSWERS,), (Way.REQUESTS, Way.ANSWERS)])
def test_a_network_that_hangs(cluster: Cluster, ways: tuple[Way, ...]) -> None:
    before = cluster.head()
    with cluster.proxy.hanging(*ways):
        cluster.refused("steady", text(), "no answer within|timeout|timed out")
        cluster.says("store", "no answer|timeout|timed out", status=503)
    cluster.recovers()
    assert cluster.head() == before


def test_a_database_without_a_free_connection(cluster: Cluster) -> None:
    before = cluster.head()
    with cluster.server.crowded():
        cluster.refused("steady", text(), "too many connections|max_user_connections")
        cluster.says("store", "too many connections|max_user_connections", status=503)
    cluster.recovers()
    assert cluster.head() == before


def test_a_database_that_may_only_be_read(cluster: Cluster) -> None:
    before = cluster.head()
    with cluster.server.read_only():
        cluster.refused("steady", text(), "read-only")
        assert cluster.head() == before  # what there is can be read
        cluster.says("publishing", "read-only", status=200)
    assert cluster.head() == before


def test_a_database_whose_disk_is_full(cluster: Cluster) -> None:
    if cluster.disk is None:
        pytest.skip("needs root and mount(8), for a file system that can be filled")
    before = cluster.head()
    large = random.randbytes(1_000_000).hex()
    with cluster.disk.full():
        cluster.refused("large", large, cluster.server.full_disk)
        cluster.says("publishing", cluster.server.full_disk)
    cluster.server.revive()
    cluster.recovers()
    assert cluster.head() == before
    cluster.published("large", large)
    assert cluster.head() == before + 1


@pytest.mark.parametrize("cut", list(Cut))
def test_a_connection_that_is_lost_at_its_commit(cluster: Cluster, cut: Cut) -> None:
    before = cluster.head()
    with cluster.proxy.cutting(cut):
        cluster.published("steady", text())
    assert cluster.head() == before + 1


async def test_of_two_hosts_the_second_has_its_turn_though_the_first_hangs(
    cluster: Cluster,
) -> None:
    port = cluster.server.process.port
    with proxy_to(port) as first, first.hanging(*Way):
        hosts = (DatabaseHost("127.0.0.1", first.port), DatabaseHost("127.0.0.1", port))
        async with open_sql_store(cluster.source(hosts), SqlOptions(deadline=15)) as store:
            assert [each.revision for each in await store.labels()] == [cluster.head()]
