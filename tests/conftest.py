"""What every test shares: databases, and that with CI=true a skipped test is a failure."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# So that a failed assert in these shows the values that it compared. Said here, before any
# test module can import them.
pytest.register_assert_rewrite("tests.contracts", "tests.servers", "tests.gateway", "tests.faults")

from tests.servers.database import Databases  # noqa: E402 (after what is said above)
from tests.servers.mariadb import MariadbProcess, mariadb_server  # noqa: E402
from tests.servers.postgresql import PostgresqlProcess, postgresql_server  # noqa: E402
from tests.stores.budget import BUDGET  # noqa: E402
from tests.stores.sql_bench import SqliteFiles  # noqa: E402

# No deadlines: how long an example takes says how busy the machine is.
settings.register_profile("unhurried", deadline=None)
settings.register_profile("fast", deadline=None, max_examples=25)  # make test-fast: a first answer
if "CI" not in os.environ:  # there hypothesis has a profile of its own, which does not hurry either
    settings.load_profile("unhurried")
if BUDGET < 1:
    few = max(25, round(BUDGET * settings().max_examples))
    settings.register_profile("budget", settings(), max_examples=few)
    settings.load_profile("budget")

# A shell without job control starts what it puts into the background deaf to Ctrl-C, and
# children inherit that. The tests that interrupt their children want them to hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

DATABASES = ("sqlite", "postgresql", "mariadb")
_chosen = os.environ.get("GATESYNC_TEST_DB") or ",".join(DATABASES)  # make test DB=...
assert set(_chosen.split(",")) <= set(DATABASES), f"GATESYNC_TEST_DB: choose among {DATABASES}"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlProcess]:
    """One server for all tests that leave it alive."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbProcess]:
    """One server for all tests that leave it alive."""
    with mariadb_server() as server:
        yield server


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.fast if name == "sqlite" else ())
        for name in _chosen.split(",")
    ]
)
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Databases:
    """Where empty databases come from: the test runs on each kind."""
    if request.param == "sqlite":
        return SqliteFiles(tmp_path)
    server: Databases = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def database(databases: Databases) -> Iterator[str]:
    """The URL of an empty database."""
    with databases.database() as url:
        yield url


_skips: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skips.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skips and _in_ci() and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for skip in _skips:
        terminalreporter.write_line(f"skipped: {skip}")
    if _skips and _in_ci():
        terminalreporter.write_line("CI=true: a skipped test is a failure", red=True)


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true"}
