"""Promise 5 at the memory engine: a reader that asks all the time never misses an artifact.

The same for saved files is in `tests/trees/test_processes.py`.
"""

import asyncio
import http.client
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from gatesync.artifacts import canonical
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.model import Artifact
from gatesync.engines.memory import MemoryEngine
from tests.promises.pair import pair
from tests.servers.gatesync import LABEL, TIMEOUT, publishing
from tests.stores.budget import BUDGET
from tests.trees.making import artifact, deployable, part

REDEPLOYS: Final = round(1000 * min(BUDGET, 20))
HTTP_REDEPLOYS: Final = round(1000 * min(BUDGET, 1))


def menu(number: int) -> Artifact:
    text = f'<api xmlns="http://ws.apache.org/ns/synapse" name="Menu" context="/m"><!--{number}-->'
    resource = '<resource methods="GET"><inSequence><drop/></inSequence></resource></api>'
    return artifact("Menu", part("api/Menu.xml", text + resource))


class Reader:
    """Reads in a thread, again and again, and keeps what it saw.

    Args:
        read: the content of the one artifact, or None where it is missed.
    """

    def __init__(self, read: Callable[[], bytes | None]) -> None:
        self.reads = 0
        self.missed = 0
        self.seen: set[bytes] = set()
        self._read = read
        self.alive = False
        self._stop = threading.Event()
        self._error: BaseException | None = None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run, name="reader")
        self.alive = True
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                content = self._read()
                self.reads += 1
                if content is None:
                    self.missed += 1
                else:
                    self.seen.add(content)
        except BaseException as error:  # noqa: BLE001 - told where the test looks
            self._error = error
        self.alive = False


@pytest.mark.fast
@pytest.mark.promise(5)
async def test_a_thread_with_the_engine_in_its_hand_never_misses_what_is_redeployed() -> None:
    engine = MemoryEngine()
    versions = [deployable(menu(number)) for number in range(REDEPLOYS)]
    api_id = versions[0].entry.api_id
    others = [deployable(artifact(f"O{number}", part("api/o.xml"))) for number in range(100)]
    await engine.apply([versions[0], *others], ())
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that the threads meet in the middle of things
    reader = Reader(lambda: engine.snapshot().get(api_id))
    try:
        with reader.at_work():
            for number, each in enumerate(versions):
                other = others[number % len(others)]
                gone = [other.entry.api_id] if number % 2 else []
                assert await engine.apply([each] if gone else [each, other], gone) == {}
                reads = reader.reads
                while reader.reads == reads and reader.alive:  # noqa: ASYNC110 - of a thread
                    await asyncio.sleep(0)
    finally:
        sys.setswitchinterval(before)
    assert reader.missed == 0
    assert reader.seen <= {each.content for each in versions}
    assert len(reader.seen) > REDEPLOYS // 2, "it did not read meanwhile"


@pytest.mark.promise(5)
def test_over_http_it_is_never_missed_while_new_versions_and_redeploys_come(tmp_path: Path) -> None:
    with pair(tmp_path) as made:
        contents = [canonical.encode(menu(number)) for number in range(HTTP_REDEPLOYS // 2)]
        made.publish_documents(json.loads(contents[0]))
        made.gateway.start()
        wanted = {"Menu": digest_of(contents[0])}
        made.gateway.wait_for(lambda: made.node.held() == wanted, "it is served")
        redeploys = 0
        looking = Sender(made.node.gateway, made.node.admin_token())
        path = f"/v1/held/content?api_id={menu(0).api_id}"
        reader = Reader(lambda: looking.get(path))
        with reader.at_work():
            publisher = Sender(made.control.publisher, made.control.operator)
            operator = Sender(made.node.gateway, made.node.admin_token())
            try:
                for content in contents:
                    publisher.post("/v1/changes", publishing(json.loads(content), label=LABEL))
                    body = {"all": True} if redeploys % 2 else {"name": "Menu"}
                    operator.post("/v1/redeploy", body)
                    redeploys += 1
            finally:
                publisher.close()
                operator.close()
            last = {"Menu": digest_of(contents[-1])}
            made.gateway.wait_for(lambda: made.node.held() == last, "the last version is served")
        looking.close()
        assert reader.missed == 0
        assert reader.seen <= set(contents)
        print(f"{reader.reads} reads saw {len(reader.seen)} of {len(contents)} versions")
        assert len(reader.seen) > len(contents) // 10


class Sender:
    """Asks on one connection; anything but an answer is a failure."""

    def __init__(self, url: str, token: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post(self, path: str, body: Any) -> None:
        self._connection.request("POST", path, json.dumps(body), self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        assert response.status in {200, 202}, answer

    def get(self, path: str) -> bytes | None:
        """The body; None where there is none."""
        self._connection.request("GET", path, headers=self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        assert response.status in {200, 404}, answer
        return answer if response.status == 200 else None

    def close(self) -> None:
        self._connection.close()
