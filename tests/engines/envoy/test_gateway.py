"""A whole gateway with Envoy: published, answered, removed; neither needs the other to stay."""

import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from psutil import process_iter as processes

from gatesync.artifacts.model import SUPER_TENANT, Identity
from gatesync.engines.envoy.process import find_envoy
from tests.servers.gatesync import (
    LABEL,
    TIMEOUT,
    Place,
    ask,
    document,
    free_ports,
    place,
    until,
)

API = """\
<api xmlns="http://ws.apache.org/ns/synapse" name="{name}" context="/{name}">
  <resource methods="GET" url-mapping="/*">
    <inSequence>
      <send><endpoint><http uri-template="http://127.0.0.1:{port}"/></endpoint></send>
    </inSequence>
    <outSequence><send/></outSequence>
  </resource>
</api>
"""


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65_536  # an answer in one piece: in two it waits for an acknowledgement

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"pizza")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def with_envoy(where: Place, **more: str) -> str:
    """Turn a place's gateway into one with Envoy; answers with where that listens."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    text = where.config.read_text()
    text = text.replace("[gatesync.gateway]\n", '[gatesync.gateway]\nengine = "envoy"\n')
    # Not the quarter of a minute that a node waits before it asks a publisher again.
    text = text.replace("gateway_labels", "deployment_retry_duration = 200\ngateway_labels")
    keys = {"listen": f'"{address}"', "threads": "1", "drain": "1000"} | more
    text += "[gatesync.envoy]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
    where.config.write_text(text)
    return f"http://{address}"


def change(where: Place, **body: Any) -> None:
    answer = where.ask("/v1/changes", method="POST", body={"labels": [LABEL], **body})
    assert answer.status == 200, answer.body


def api(name: str, port: int) -> dict[str, Any]:
    content = API.format(name=name, port=port)
    part = {"role": "api", "name": name, "path": f"api/{name}.xml", "text": content}
    return document(name, kind="api", parts=[part])


def serves(url: str, name: str) -> bool:
    """As a condition to wait for: a change is committed before its gateways have it."""
    answer = ask(url, f"/{name}/margherita")
    assert answer.status in {200, 404}
    return answer.status == 200


def envoys_of(where: Place) -> set[int]:
    """Every Envoy that was started in this place's folder."""
    lines = {each.pid: " ".join(each.info["cmdline"] or ()) for each in processes(["cmdline"])}
    return {pid for pid, line in lines.items() if f"{where.data}/envoy/bootstrap-" in line}


@contextmanager
def load(url: str, path: str) -> Iterator[Counter[object]]:
    """Ask again and again on one connection; yields what came of it."""
    found: Counter[object] = Counter()
    stop = threading.Event()

    def keep_asking() -> None:
        connection = HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT)
        while not stop.wait(0.001):
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                found[response.status, response.read()] += 1
            except (OSError, HTTPException) as error:
                found[repr(error)] += 1
                connection.close()
        connection.close()

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def more(found: Counter[object], count: int = 30) -> None:
    expected = found.total() + count
    until(lambda: found.total() >= expected, "more requests")


def test_published_is_answered_and_removed_is_not(tmp_path: Path, upstream: int) -> None:
    with place(tmp_path / "one") as one:
        url = with_envoy(one)
        up = one.role("up").start()
        change(one, publish=[{"artifact": api("menu", upstream)}])
        until(lambda: serves(url, "menu"), "it is served")
        assert one.held().keys() == {"menu"}
        metrics = ask(one.gateway, "/metrics", token=one.admin_token()).body.decode()
        assert "gatesync_gateway_envoy_in_step 1.0" in metrics
        change(one, remove=[Identity(SUPER_TENANT, "api", "menu", "").default_api_id()])
        until(lambda: not serves(url, "menu"), "it is not served any more")
        assert len(envoys_of(one)) == 1
        assert up.stop() == 0
        assert envoys_of(one) == set()


def test_a_gateway_that_cannot_start_leaves_no_envoy(tmp_path: Path, upstream: int) -> None:
    with place(tmp_path / "one") as one:
        with_envoy(one)
        text = one.config.read_text().replace(one.gateway.rpartition(":")[2], str(upstream))
        one.config.write_text(text)
        (one.data / "gateway.token").parent.mkdir()
        (one.data / "gateway.token").write_text("secret")
        (one.data / "gateway.token").chmod(0o600)
        done = one.run("gateway", "--config", one.config)
        assert done.code == 3
        assert "cannot listen on" in done.err
        assert envoys_of(one) == set()


@pytest.mark.promise(5)
@pytest.mark.promise(10)
def test_neither_a_killed_gateway_nor_its_restart_costs_a_request(
    tmp_path: Path, upstream: int
) -> None:
    with (
        place(tmp_path / "one") as one,
        place(tmp_path / "two", node="gw2", publisher=one.publisher) as two,
    ):
        one.role("up").start()
        one.give_token(two, LABEL)
        url = with_envoy(two)
        gateway = two.role("gateway").start()
        change(one, publish=[{"artifact": api(name, upstream)} for name in ("menu", "bread")])
        until(lambda: serves(url, "menu"), "it is served")
        first = envoys_of(two)
        with load(url, "/menu/margherita") as answers:
            more(answers)
            gateway.stop(signal.SIGKILL)
            more(answers)
            change(one, remove=[Identity(SUPER_TENANT, "api", "bread", "").default_api_id()])
            gateway.start()
            until(lambda: not serves(url, "bread"), "what was removed meanwhile is gone")
            more(answers)
        assert answers.keys() == {(200, b"pizza")}
        assert envoys_of(two) == first

        os.kill(first.pop(), signal.SIGKILL)
        until(lambda: is_served_again(two, url), "served by another Envoy")
        assert len(envoys_of(two)) == 1


def is_served_again(where: Place, url: str) -> bool:
    try:
        return serves(url, "menu") and ask(where.gateway, "/health/ready").status == 200
    except OSError:
        return False


def test_an_envoy_that_others_run(tmp_path: Path, upstream: int) -> None:
    with place(tmp_path / "one") as one:
        url = with_envoy(one, external="true")
        printed = one.run("gateway", "--config", one.config, "--print-envoy-bootstrap")
        assert printed.code == 0, printed.err
        bootstrap = tmp_path / "envoy.json"
        bootstrap.write_text(printed.out)
        command = [find_envoy(None), "--config-path", bootstrap, "--disable-hot-restart"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as envoy:
            try:
                up = one.role("up").start()
                change(one, publish=[{"artifact": api("menu", upstream)}])
                until(lambda: serves(url, "menu"), "it is served")
                assert up.stop() == 0
                assert envoy.poll() is None
                assert serves(url, "menu")
            finally:
                envoy.kill()
