"""Somebody who changes artifacts at a steady pace, over HTTP, in a thread of his own."""

import http.client
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from gatesync.artifacts import canonical
from gatesync.artifacts.model import SUPER_TENANT, Artifact
from tests.servers.gatesync import LABEL, TIMEOUT, Place
from tests.trees.making import artifact, part

RATE: Final = 50.0  # changes per second
APIS, SEQUENCES, ENDPOINTS, POLICIES = 12, 4, 3, 2
SYNAPSE: Final = 'xmlns="http://ws.apache.org/ns/synapse"'


class Editor:
    """Publishes, edits and removes; every change leads to artifacts that fit each other.

    Attributes:
        wanted: by api_id, what the label holds after the last change that was acknowledged.
        changes: how many were.
        slowest: seconds that the slowest of them took.
    """

    def __init__(self, publisher: Place, seed: str) -> None:
        self.wanted: dict[str, Artifact] = {}
        self.changes = 0
        self.slowest = 0.0
        self._chance = random.Random(seed)
        self._token = publisher.operator
        self._host = urlsplit(publisher.publisher).netloc
        self._shared: dict[str, Artifact] = {}  # sequences and endpoints, by name
        self._apis: dict[str, tuple[Artifact, set[str]]] = {}  # and the shared ones they use
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._error: BaseException | None = None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Changes arrive while the block runs."""
        thread = threading.Thread(target=self._work, name="editor")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
        self.check()

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Nothing changes while the block runs."""
        with self._turn:
            self.check()
            yield

    def check(self) -> None:
        """Raise what went wrong in the thread."""
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=TIMEOUT)
        try:
            due = time.monotonic()
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                with self._turn:
                    begun = time.monotonic()
                    self._change(connection)
                    self.slowest = max(self.slowest, time.monotonic() - begun)
                due = max(due + 1 / RATE, time.monotonic() - 1)  # after a rest it does not hurry
        except BaseException as error:  # noqa: BLE001 - told where the test looks
            self._error = error
        finally:
            connection.close()

    def _change(self, connection: http.client.HTTPConnection) -> None:
        publish, remove = self._next()
        documents = [{"artifact": json.loads(canonical.encode(each))} for each in publish]
        body = {"labels": [LABEL], "publish": documents, "remove": remove, "atomic": True}
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/changes", json.dumps(body), headers)
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer
        self.wanted |= {each.api_id: each for each in publish}
        for api_id in remove:
            del self.wanted[api_id]
        self.changes += 1

    # What to change --------------------------------------------------------------------------

    def _next(self) -> tuple[list[Artifact], list[str]]:
        """What to publish, and what to remove."""
        kind = self._chance.choices(
            [self._edit_api, self._edit_shared, self._remove_api, self._remove_shared,
             self._edit_policy],
            [60, 15, 12, 6, 4],
        )  # fmt: skip
        return kind[0]()

    def _edit_api(self) -> tuple[list[Artifact], list[str]]:
        name = f"Api{self._chance.randrange(APIS)}"
        used = self._chance.sample(sorted(self._shared), min(2, len(self._shared)))
        news = []
        if self._chance.random() < 0.2:  # one change with an API and what it needs
            news.append(self._make_shared())
            used.append(news[0].identity.name)
        return [*news, self._make_api(name, set(used))], []

    def _edit_shared(self) -> tuple[list[Artifact], list[str]]:
        return [self._make_shared()], []

    def _edit_policy(self) -> tuple[list[Artifact], list[str]]:
        name = f"gold{self._chance.randrange(POLICIES)}"
        file = part(f"executionplans/{name}", self._text())
        return [artifact(name, file, kind="policy", tenant="t1")], []

    def _remove_api(self) -> tuple[list[Artifact], list[str]]:
        if not self._apis:
            return self._edit_shared()
        made, _ = self._apis.pop(self._chance.choice(sorted(self._apis)))
        return [], [made.api_id]

    def _remove_shared(self) -> tuple[list[Artifact], list[str]]:
        """Remove one, and in the same change make those that use it do without."""
        if not self._shared:
            return self._edit_shared()
        gone = self._chance.choice(sorted(self._shared))
        api_id = self._shared.pop(gone).api_id
        users = [name for name, (_, used) in self._apis.items() if gone in used]
        return [self._make_api(each, self._apis[each][1] - {gone}) for each in users], [api_id]

    def _make_shared(self) -> Artifact:
        number = self._chance.randrange(SEQUENCES + ENDPOINTS)
        if number < SEQUENCES:
            name = f"common{number}"
            text = f'<sequence {SYNAPSE} name="{name}"><!--{self._text()}--><drop/></sequence>'
            made = artifact(name, part(f"sequences/{name}.xml", text), kind="sequence")
        else:
            name = f"backend{number}"
            uri = f"http://{name}.example/{self._chance.randrange(1000)}"
            text = f'<endpoint {SYNAPSE} name="{name}"><address uri="{uri}"/></endpoint>'
            made = artifact(name, part(f"endpoints/{name}.xml", text), kind="endpoint")
        self._shared[name] = made
        return made

    def _make_api(self, name: str, used: set[str]) -> Artifact:
        """Versions differ in bytes, in which files there are, and in where they stand."""
        parts, keys = [], [f'<{_role(each)} key="{each}"/>' for each in sorted(used)]
        if self._chance.random() < 0.7:
            own = f"{name}--v1.0.0--In"
            below = self._chance.choice(["", "", "below/"])
            text = f'<sequence {SYNAPSE} name="{own}"><!--{self._text()}--><drop/></sequence>'
            parts.append(part(f"sequences/{below}{own}.xml", text, own))
            keys.append(f'<sequence key="{own}"/>')
        if self._chance.random() < 0.7:
            own = f"{name}--v1.0.0_APIproductionEndpoint"
            text = f'<endpoint {SYNAPSE} name="{own}"><address uri="http://a.example"/></endpoint>'
            parts.append(part(f"endpoints/{own}.xml", text))
            keys.append(f'<endpoint key="{own}"/>')
        steps = "".join(f"<send>{key}</send>" if "endpoint" in key else key for key in keys)
        text = (
            f'<api {SYNAPSE} name="admin--{name}" context="/{name.lower()}/1.0.0" version="1.0.0">'
            f'<!--{self._text()}--><resource methods="GET" url-mapping="/*">'
            f"<inSequence>{steps}</inSequence></resource></api>"
        )
        parts.append(part(f"api/admin--{name}_v1.0.0.xml", text, f"admin--{name}"))
        made = artifact(name, *parts, tenant=SUPER_TENANT)
        self._apis[name] = made, used
        return made

    def _text(self) -> str:
        size = 20_000 if self._chance.random() < 0.1 else 50
        return f"{self._chance.getrandbits(64):x}{'x' * size}"


def _role(name: str) -> str:
    return "sequence" if name.startswith("common") else "endpoint"
