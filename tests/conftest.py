"""What every test shares: with CI=true a skipped test is a failure."""

import os
import signal

import pytest
from hypothesis import settings

# So that a failed assert in these shows the values that it compared. Said here, before any
# test module can import them.
pytest.register_assert_rewrite("tests.contracts", "tests.servers", "tests.gateway", "tests.faults")

settings.register_profile("fast", max_examples=25)  # make test-fast: a first answer

# A shell without job control starts what it puts into the background deaf to Ctrl-C, and
# children inherit that. The tests that interrupt their children want them to hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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
