"""A gateway with Envoy and many APIs: publish to served, start, memory, requests per second.

Real processes: publisher on SQLite, broker, one gateway with its Envoy (one worker thread), nginx
as the upstream of all APIs. Each API has a context, a cluster and a scope of its own.

`publish_to_served_ms`: from the first byte of the request to the publisher until a client that
asks Envoy again and again has the new version's answer. `start_seconds`: from the start of a
gateway's process, with Envoy not running and its own disk cached, until the last API is answered.
`requests_per_second`: wrk through this Envoy and, in turn, through the same program with one
worker and a static configuration as one writes it by hand: one route for each API, one cluster.
`cpu_us` is what the two took of a core for one request; on a busy machine it is the better figure.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from figures import Peer, Target, milliseconds, print_figure
from gatesync.artifacts import canonical
from gatesync.artifacts.model import SUPER_TENANT, Artifact, Identity, Part
from gatesync.artifacts.synapse import SYNAPSE_NAMESPACE
from gatesync.cli.session import Target as Publishers
from gatesync.cli.session import call
from gatesync.config import Secret
from gatesync.engines.envoy.process import find_envoy
from gatesync.publisher.requests import ChangeAnswer
from gatesync.web.client import HttpClient
from parts import GATESYNC, cpu_seconds, free_port, role, wait_until

LABEL = "Default"
SERVED = Target("p50", at_most=10.0, why="Commit, event, translation, and Envoy's own update.")
RATE = Target(
    "ratio",
    at_least=0.9,
    why="Each request costs an early header, a scope and a route of its own; the floor is what it "
    "takes of a core, here and there.",
)
STATIC = Peer(
    "a static Envoy",
    settings={
        "routes": "one for each API, path_separated_prefix and prefix_rewrite, one cluster",
        "arguments": "--concurrency 1 --disable-hot-restart, as ours",
    },
)
PUBLISHED_AT_ONCE = 500
CONNECTIONS = 32
SECONDS_MOST = 300.0


def main() -> None:
    """Measure, and print one line for each number of APIs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apis", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--publishes", type=int, default=200, help="measured, one after the other")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each wrk run; 0: none")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is told")
    options = parser.parse_args()
    for count in options.apis:
        with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
            figures = _measure(Path(folder), count, options)
        _print(count, figures, options)


def api_of(number: int, upstream: int, edit: int = 0) -> bytes:
    """An API whose upstream tells in its answer which edit of it was asked."""
    name = f"Bench{number:06d}API"
    xml = f"""\
<api xmlns="{SYNAPSE_NAMESPACE}" name="{name}" context="/bench{number}" version="1.0.0">
  <resource methods="GET POST" url-mapping="/*">
    <inSequence>
      <send>
        <endpoint>
          <http uri-template="http://127.0.0.1:{upstream}/{number}/{edit}"/>
        </endpoint>
      </send>
    </inSequence>
    <outSequence><send/></outSequence>
  </resource>
</api>
"""
    part = Part("api", name, f"api/{name}.xml", xml.encode())
    identity = Identity(SUPER_TENANT, "api", name, "1.0.0")
    return canonical.encode(Artifact(identity, identity.default_api_id(), (part,)))


def path_of(number: int) -> str:
    return f"/bench{number}/items"


def _measure(folder: Path, count: int, options: argparse.Namespace) -> dict[str, Any]:
    ports = {each: free_port() for each in ("publisher", "gateway", "broker", "envoy")}
    with ExitStack() as stack:
        upstream = stack.enter_context(_nginx(folder))
        control = folder / "control.toml"
        control.write_text(
            f"[gatesync]\ndata = 'control'\n"
            f"[gatesync.publisher]\nlisten = '127.0.0.1:{ports['publisher']}'\n"
            f"[gatesync.traffic_manager]\nlisten = '127.0.0.1:{ports['broker']}'\n"
        )
        stack.enter_context(role("traffic-manager", control, folder / "tm.log"))
        credentials = folder / "control" / "broker-credentials.json"
        while not credentials.exists():  # the publisher reads it when it starts
            time.sleep(0.01)
        stack.enter_context(role("publisher", control, folder / "publisher.log"))
        url = f"http://127.0.0.1:{ports['publisher']}"
        wait_until(f"{url}/health/ready")
        create = [GATESYNC, "token", "create", "--role", "node", "--id", "bench", "--label", LABEL]
        token = subprocess.check_output([*create, "--config", str(control)], text=True).strip()
        client = tomllib.loads((folder / "control" / "client.toml").read_text())
        _publish_all(client, count, upstream)
        config = folder / "gateway.toml"
        config.write_text(
            f"[gatesync]\ndata = 'gateway'\nnode_id = 'bench'\n"
            f"[gatesync.gateway]\nengine = 'envoy'\ntoken = '{token}'\n"
            f"listen = '127.0.0.1:{ports['gateway']}'\n"
            f"[gatesync.envoy]\nlisten = '127.0.0.1:{ports['envoy']}'\nthreads = 1\ndrain = 0\n"
            f"[apim.sync_runtime_artifacts.gateway]\ngateway_labels = ['{LABEL}']\n"
            f"save_artifacts_locally = false\n"
            f"[apim.event_hub]\nservice_url = '{url}'\n"
        )
        gateway, envoy = f"http://127.0.0.1:{ports['gateway']}", ports["envoy"]
        last = path_of(count - 1)
        with role("gateway", config, folder / "gateway.log"):
            _until_served(envoy, last)
            wait_until(f"{gateway}/health/ready", SECONDS_MOST)
            time.sleep(2)  # its disk is written a moment later
        started = time.monotonic()
        process = stack.enter_context(role("gateway", config, folder / "gateway.log"))
        _until_served(envoy, last)
        start_seconds = time.monotonic() - started
        wait_until(f"{gateway}/health/ready", SECONDS_MOST)
        envoy_pid = int((folder / "gateway" / "envoy" / "envoy.pid").read_text())
        memory = {"agent_mb": _resident_mb(process.pid), "envoy_mb": _resident_mb(envoy_pid)}
        served = milliseconds(
            [
                _publish_to_served(client, envoy, number * 7919 % count, upstream, number + 1)
                for number in range(options.publishes)
            ]
        )
        rates = {}
        if options.seconds:
            static = stack.enter_context(_static_envoy(folder, count, upstream))
            for which, number in (("first", 0), ("last", count - 1)):
                rates[which] = _rates((envoy, envoy_pid), static, path_of(number), options)
    return {"served": served, "start_seconds": start_seconds, **memory, "rates": rates}


def _print(count: int, figures: dict[str, Any], options: argparse.Namespace) -> None:
    print_figure(
        "envoy_serving",
        f"publish until Envoy serves it, {count:,} APIs",
        apis=count,
        **figures["served"],
        start_seconds=round(figures["start_seconds"], 2),
        agent_mb=figures["agent_mb"],
        envoy_mb=figures["envoy_mb"],
        target=SERVED,
        floor={"p50": figures["served"]["p50"]},
    )
    for which, rate in figures["rates"].items():
        print_figure(
            "envoy_serving",
            f"requests a second to the {which} of {count:,} APIs",
            apis=count,
            n=options.rounds,
            unit="a second",
            value=rate["envoy"],
            cpu_us=rate["cpu_us"],
            limit={
                "what": f"a static Envoy with {count:,} routes",
                "unit": "a second",
                "value": rate["static"],
            },
            ratio=rate["ratio"],
            target=RATE,
            floor={"cpu_us": rate["cpu_us"]},
            peer=STATIC,
        )


def _publish_all(client: dict[str, Any], count: int, upstream: int) -> None:
    async def work(http: HttpClient) -> None:
        for start in range(0, count, PUBLISHED_AT_ONCE):
            numbers = range(start, min(count, start + PUBLISHED_AT_ONCE))
            items = [{"artifact": json.loads(api_of(each, upstream))} for each in numbers]
            await http.post("/v1/changes", {"labels": [LABEL], "publish": items}, ChangeAnswer)

    call(Publishers((client["publisher"],), Secret(client["token"])), work)


def _publish_to_served(
    client: dict[str, Any], envoy: int, number: int, upstream: int, edit: int
) -> float:
    """Milliseconds. The answer of the publisher is read when the new version was served."""
    item = {"artifact": json.loads(api_of(number, upstream, edit))}
    body = json.dumps({"labels": [LABEL], "publish": [item]}).encode()
    head = (
        f"POST /v1/changes HTTP/1.1\r\nHost: publisher\r\nConnection: close\r\n"
        f"Authorization: Bearer {client['token']}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    publisher = urlsplit(client["publisher"])
    with (
        socket.create_connection((publisher.hostname, publisher.port)) as publishing,
        socket.create_connection(("127.0.0.1", envoy)) as asking,
    ):
        wanted = f"/{number}/{edit}/"
        _get(asking, path_of(number))
        began = time.perf_counter()
        publishing.sendall(head.encode() + body)
        while wanted not in _get(asking, path_of(number))[1]:
            if time.perf_counter() - began > SECONDS_MOST:
                raise TimeoutError(publishing.recv(65_536).decode())
            time.sleep(0.0002)
        took = time.perf_counter() - began
        answer = publishing.recv(65_536)
        if b" 200 " not in answer[:20]:
            raise OSError(answer.decode())
    time.sleep(0.01)
    return took * 1000


def _get(connection: socket.socket, path: str) -> tuple[int, str]:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        got += _received(connection)
    head, _, body = got.partition(b"\r\n\r\n")
    lower = head.lower()
    length = int(lower.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
    while len(body) < length:
        body += _received(connection)
    return int(head.split()[1]), body.decode()


def _received(connection: socket.socket) -> bytes:
    received = connection.recv(65_536)
    if not received:
        raise ConnectionResetError("Envoy closed the connection")
    return received


def _until_served(envoy: int, path: str) -> None:
    deadline = time.monotonic() + SECONDS_MOST
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", envoy)) as asking:
            if _get(asking, path)[0] == 200:
                return
        time.sleep(0.01)
    raise TimeoutError(f"{path} is not served")


def _rates(
    envoy: tuple[int, int], static: tuple[int, int], path: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Medians of pairs, one run after the other, the first in turn; each is a port and a pid."""
    runs: dict[str, list[tuple[float, float]]] = {"envoy": [], "static": []}
    pairs = [("envoy", *envoy), ("static", *static)]
    for number in range(options.rounds):
        for name, port, pid in pairs if number % 2 else reversed(pairs):
            before = cpu_seconds(pid)
            rate = _wrk(port, path, options.seconds)
            cpu = (cpu_seconds(pid) - before) / (rate * options.seconds)
            runs[name].append((rate, cpu * 1e6))
    ratios = [ours[0] / theirs[0] for ours, theirs in zip(*runs.values(), strict=True)]
    return {
        **{name: round(statistics.median(rate for rate, _ in some)) for name, some in runs.items()},
        "ratio": round(statistics.median(ratios), 3),
        "cpu_us": {
            name: round(statistics.median(cpu for _, cpu in some), 1) for name, some in runs.items()
        },
    }


def _wrk(port: int, path: str, seconds: float) -> float:
    wrk = shutil.which("wrk")
    if wrk is None:
        raise FileNotFoundError("wrk is missing: apt-get install wrk, or give --seconds 0")
    url = f"http://127.0.0.1:{port}{path}"
    said = subprocess.check_output(
        [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", url], text=True
    )
    if "Non-2xx" in said or "Socket errors" in said:
        raise OSError(said)
    return float(said.partition("Requests/sec:")[2].split()[0])


@contextmanager
def _nginx(folder: Path) -> Iterator[int]:
    """Answers each request with its path."""
    port = free_port()
    config = folder / "nginx.conf"
    temp = "".join(
        f"{name}_temp_path {folder};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        f"events {{}}\nhttp {{ access_log off; keepalive_requests 100000000; {temp}\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 $uri; }} }} }}\n"
    )
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        raise FileNotFoundError("nginx is missing: apt-get install nginx-light")
    with _process([binary, "-c", str(config), "-e", str(folder / "nginx.log")], folder):
        _until_served(port, "/")
        yield port


@contextmanager
def _static_envoy(folder: Path, count: int, upstream: int) -> Iterator[tuple[int, int]]:
    """The same program, told everything in its own file; yields port and pid."""
    port = free_port()
    path = folder / "static.json"
    path.write_text(json.dumps(_static(port, count, upstream)))
    command = [str(find_envoy(None)), "-c", str(path), "--concurrency", "1", "-l", "error"]
    with _process([*command, "--disable-hot-restart"], folder) as pid:
        _until_served(port, path_of(count - 1))
        yield port, pid


def _static(port: int, count: int, upstream: int) -> dict[str, Any]:
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    manager = (
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager"
    )
    routes = [
        {
            "match": {"path_separated_prefix": f"/bench{number}"},
            "route": {"cluster": "upstream", "prefix_rewrite": f"/{number}/0"},
        }
        for number in range(count)
    ]
    http = {
        "@type": manager,
        "stat_prefix": "static",
        "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": router}}],
    }
    endpoint = {"endpoint": {"address": _address(upstream)}}
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": _address(port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": http}]}],
                }
            ],
            "clusters": [
                {
                    "name": "upstream",
                    "load_assignment": {
                        "cluster_name": "upstream",
                        "endpoints": [{"lb_endpoints": [endpoint]}],
                    },
                }
            ],
        }
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


@contextmanager
def _process(command: list[str], folder: Path) -> Iterator[int]:
    with (folder / "others.log").open("ab") as log:
        # In a session of its own, as a gateway's Envoy is: Linux shares cores out by sessions.
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


if __name__ == "__main__":
    main()
