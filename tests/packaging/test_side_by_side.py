"""Several nodes on one host: default ports, told apart by `[server] offset` alone."""

import re
from pathlib import Path

from gatesync.config.sections import GATEWAY_LISTEN, PUBLISHER_LISTEN, TRAFFIC_MANAGER_LISTEN
from tests.servers.gatesync import EXAMPLES, HEARTBEAT_MS, LABEL, Place, free_ports, place

PUBLISHER, GATEWAY, BROKER = (
    int(listen.rpartition(":")[2])
    for listen in (PUBLISHER_LISTEN, GATEWAY_LISTEN, TRAFFIC_MANAGER_LISTEN)
)


def free_offset() -> int:
    """At which every default port, shifted, is free."""
    while True:
        ports = free_ports(3)
        if [port - ports[0] for port in ports] == [0, GATEWAY - PUBLISHER, BROKER - PUBLISHER]:
            return ports[0] - PUBLISHER


def shift(where: Place, offset: int, *, publisher_at: int | None = None) -> None:
    """Leave it no port of its own: the offset moves the default ones."""
    hub = ""
    if publisher_at is not None:
        hub = f'[apim.event_hub]\nservice_url = "http://127.0.0.1:{PUBLISHER + publisher_at}"\n'
    quick = f"[gatesync]\nheartbeat_interval = {HEARTBEAT_MS}\n"
    where.config.write_text(f"[server]\noffset = {offset}\n{hub}{quick}")
    where.publisher = f"http://127.0.0.1:{PUBLISHER + offset}"
    where.gateway = f"http://127.0.0.1:{GATEWAY + offset}"
    where.broker_port = BROKER + offset


def node_id(where: Place) -> str:
    shown = where.run("config", "show", where.config).out
    found = re.search(r'^node_id = "(.*)"', shown, re.MULTILINE)
    assert found, shown
    return found[1]


def test_a_publisher_and_two_gateways_run_beside_each_other(tmp_path: Path) -> None:
    first, second = free_offset(), free_offset()
    with (
        place(tmp_path / "control") as control,
        place(tmp_path / "one") as one,
        place(tmp_path / "two") as two,
    ):
        shift(control, first)
        shift(one, first, publisher_at=first)
        shift(two, second, publisher_at=first)
        control.role("traffic-manager").start(wait=False)
        control.role("publisher").start()
        for node in (one, two):
            node.node = node_id(node)
            control.give_token(node, LABEL)
        assert one.node != two.node  # by the offset, on one host
        for node in (one, two):
            node.role("gateway").start()
        options = ("--label", LABEL, "--wait", "all")
        done = control.run("publish", EXAMPLES / "menu", *options)
        assert done.code == 0, done.err
        assert {one.node, two.node} <= set(done.out.split())
        assert one.held() == two.held() != {}
