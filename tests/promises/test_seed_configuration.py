"""Two blocks of `deployment.toml`, as WSO2's documentation prints them, run a cluster."""

from pathlib import Path

import pytest

from gatesync.publisher.tokens import Role, TokenFile
from tests.servers.gatesync import EXAMPLES, Place, free_ports, until

PUBLISHER = """
[apim.sync_runtime_artifacts.publisher]
artifact_saver = "DBSaver"
publish_directly_to_gateway = "true"
"""
GATEWAY = """
[apim.sync_runtime_artifacts.gateway]
gateway_labels =["Production and Sandbox","Label1","Label2"]
artifact_retriever = "DBRetriever"
deployment_retry_duartion = 15000
data_retrieval_mode = "sync"
save_artifacts_locally = false
"""
# The port alone differs from what is printed, and the scheme, which needs a certificate.
EVENT_HUB = """
[apim.event_hub]
enable = true
service_url = "http://127.0.0.1:{port}"
"""
LABELS = ("Production and Sandbox", "Label1", "Label2")


def configured(place: Place, blocks: str, role: str, port: int) -> None:
    """The blocks as they are printed, beside who it is and where it listens."""
    place.config.write_text(
        f'{blocks}\n[gatesync]\nnode_id = "{place.node}"\nheartbeat_interval = 200\n'
        f'[gatesync.{role}]\nlisten = "127.0.0.1:{port}"\n'
        f'[gatesync.traffic_manager]\nlisten = "127.0.0.1:{place.broker_port}"\n'
    )


@pytest.mark.parametrize("own_gateway_block", [True, False], ids=["documented", "empty"])
def test_the_documented_blocks_reach_step_with_each_other(
    tmp_path: Path, own_gateway_block: bool
) -> None:
    publisher_port, gateway_port = free_ports(2)
    manager = Place(tmp_path / "manager", node="manager")
    node = Place(tmp_path / "node", node="worker")
    manager.publisher = f"http://127.0.0.1:{publisher_port}"
    node.gateway = f"http://127.0.0.1:{gateway_port}"
    configured(manager, PUBLISHER, "publisher", publisher_port)
    hub = EVENT_HUB.format(port=publisher_port)
    configured(node, (GATEWAY if own_gateway_block else "") + hub, "gateway", gateway_port)
    try:
        manager.role("traffic-manager").start()
        manager.role("publisher").start()
        token = TokenFile(manager.data / "tokens.json").create(Role.NODE, "worker", LABELS)
        node.data.mkdir(mode=0o700)
        path = node.data / "gateway.token"
        path.write_text(token)
        path.chmod(0o600)
        gateway = node.role("gateway").start()
        for label in LABELS if own_gateway_block else LABELS[:1]:
            done = manager.run("publish", EXAMPLES / "pizzashack", "-l", label, "--wait", "all")
            assert done.code == 0, done.err + gateway.said()
        assert set(node.held()) == {"PizzaShackAPI"}
        until(lambda: manager.run("verify").code == 0, "every label is in step")
        saved = list(node.folder.glob("repository/**/*PizzaShackAPI*"))
        # Without the key, files are kept, too: so the documentation says.
        assert bool(saved) is not own_gateway_block
    finally:
        node.end()
        manager.end()
