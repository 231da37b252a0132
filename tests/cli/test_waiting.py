"""--wait, --expect and --timeout: enough gateways have it, or who has not, and why."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatesync.artifacts.errors import Problem
from gatesync.cli.waiting import parse_goal
from tests.servers.gatesync import LABEL, Place, place


@pytest.mark.parametrize("wait", ["all", "1", "50%", "0"])
def test_it_waits_for_as_many_as_asked(cluster: Place, sequence: Path, wait: str) -> None:
    done = cluster.run("publish", sequence, "-l", LABEL, "--wait", wait, "--json")
    assert done.code == 0, done.err
    (awaited,) = done.json()["waited"]
    assert awaited["reached"]
    if wait not in {"0"}:
        assert [each["status"] for each in awaited["receipts"]] == ["applied"]


@pytest.mark.parametrize("wait", ["", "some", "-1", "101%", "%", "1.5", "²", "٣", "9" * 5000])
def test_what_cannot_be_waited_for(wait: str) -> None:
    with pytest.raises(Problem, match="write all, a number, or a share such as 95%"):
        parse_goal(wait, None)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--wait=²", "--wait '²' is not understood; write all, a number, or a share such as 95%"),
        ("--timeout=nan", "--timeout 'nan' is not understood; write 30s, 500ms or 2m"),
        ("--timeout=1h", "--timeout '1h' is not understood; write 30s, 500ms or 2m"),
    ],
)
def test_a_wrong_option_changes_nothing(
    cluster: Place, sequence: Path, name: str, option: str, message: str
) -> None:
    done = cluster.run("publish", sequence, "-l", name, option)
    assert (done.code, done.out, done.err) == (2, "", f"gatesync: {message}\n")
    assert name not in {head["label"] for head in cluster.heads()}


def test_a_label_that_no_gateway_has(cluster: Place, sequence: Path, name: str) -> None:
    waiting = ("publish", sequence, "-l", name, "--wait", "all", "--timeout", "300ms")
    done = cluster.run(*waiting)
    assert done.code == 1
    assert f"no gateway of label '{name}' is known; use --expect 0 if there is none" in done.err
    assert cluster.run(*waiting, "--expect", "0").code == 0


def test_fewer_gateways_than_expected(cluster: Place, sequence: Path) -> None:
    waiting = ("--wait", "all", "--expect", "2", "--timeout", "300ms")
    done = cluster.run("publish", sequence, "-l", LABEL, *waiting)
    assert done.code == 1
    assert "1 of 1 gateways have revision" in done.out
    assert f"{LABEL}: 2 gateways were to have it in time" in done.err


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A cluster with two gateways, of which one was killed."""
    folder = tmp_path_factory.mktemp("halved")
    with place(folder / "one") as one:
        one.role("up").start()
        with place(folder / "two", node="gw2", publisher=one.publisher) as two:
            one.give_token(two, LABEL)
            other = two.role("gateway").start()
            other.wait_for(lambda: "gw2" in one.run("gateways").out, "gw2 is known")
            other.stop(signal.SIGKILL)
            yield one


def test_who_is_missing_is_named_with_the_reason(halved: Place, sequence: Path, name: str) -> None:
    waiting = ("-l", LABEL, "--wait", "all", "--timeout", "1500ms")
    done = halved.run("publish", sequence, *waiting)
    assert done.code == 1
    assert "1 of 2 gateways have revision" in done.out
    assert "  gw1  applied after " in done.out
    (line,) = (line for line in done.out.splitlines() if line.startswith("  gw2"))
    assert line.startswith(("  gw2  lost: not heard of for ", "  gw2  waiting: at revision "))

    assert halved.run("remove", name, *waiting[:3], "50%").code == 0


def test_verify_says_who_gave_no_answer(halved: Place) -> None:
    done = halved.run("verify", "--timeout", "500ms")
    assert done.code == 3
    assert "gw2  no answer" in done.out
