"""Promise 5 with a load generator of others: an API is redeployed again and again under load.

Its gateway is killed and started again in between. `wrk` counts what failed.
"""

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.engines.envoy.test_gateway import API, change, upstream, with_envoy
from tests.servers.gatesync import LABEL, ask, document, place, until
from tests.stores.budget import BUDGET

__all__ = ["upstream"]

REDEPLOYS = max(30, round(100 * min(10.0, BUDGET)))  # 1,000 with `make long`
KILLS = 3 if BUDGET >= 1 else 1
PATH = "/menu/margherita"
LONGEST_SECONDS = 600


def menu(port: int, version: int) -> dict[str, Any]:
    """The API, which tells its version with each answer."""
    tells = f'<header name="X-Menu" value="{version}" scope="transport"/><send/></outSequence>'
    content = API.format(name="menu", port=port).replace("<send/></outSequence>", tells)
    part = {"role": "api", "name": "menu", "path": "api/menu.xml", "text": content}
    return document("menu", kind="api", parts=[part])


@contextmanager
def wrk(url: str) -> Iterator[list[str]]:
    """Load on eight connections; after it, what wrk has to say."""
    program = shutil.which("wrk")
    if program is None:
        pytest.skip("wrk is not installed: apt-get install wrk")
    said: list[str] = []
    command = [program, "-t1", "-c8", f"-d{LONGEST_SECONDS}s", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield said
        finally:
            running.send_signal(signal.SIGINT)
            said.append(running.communicate(timeout=30)[0])


@pytest.mark.promise(5)
@pytest.mark.timeout(LONGEST_SECONDS)
def test_no_request_of_wrk_fails_while_its_api_is_redeployed_and_its_gateway_killed(
    tmp_path: Path, upstream: int
) -> None:
    with (
        place(tmp_path / "one") as one,
        place(tmp_path / "two", node="gw2", publisher=one.publisher) as two,
    ):
        one.role("up").start()
        one.give_token(two, LABEL)
        envoy = with_envoy(two)
        gateway = two.role("gateway").start()

        def serves(version: int) -> bool:
            return ask(envoy, PATH).headers.get("x-menu") == str(version)

        change(one, publish=[{"artifact": menu(upstream, 0)}])
        until(lambda: serves(0), "the first version is served")
        with wrk(envoy + PATH) as said:
            for version in range(1, REDEPLOYS + 1):
                if version % (REDEPLOYS // (KILLS + 1)) == 0:
                    gateway.stop(signal.SIGKILL)
                    gateway.start()
                change(one, publish=[{"artifact": menu(upstream, version)}])
                until(lambda version=version: serves(version), f"version {version} is served")
        (report,) = said
        requests = re.search(r"(\d+) requests in", report)
        assert requests is not None, report
        assert int(requests[1]) > REDEPLOYS
        assert "Non-2xx" not in report, report
        assert "Socket errors" not in report, report
