"""Promise 4, where what an engine does about one artifact is to end the process."""

import signal
from pathlib import Path

import pytest

from tests.promises.pair import Pair, api_id_of, pair
from tests.servers.gatesync import sequence_xml, until
from tests.trees.making import CONFIGS

ENGINE = 'engine = "tests.promises.crashing:open_crashing_engine"'


def ends(made: Pair) -> None:
    """As soon as it is there its engine ends it."""
    until(lambda: not made.gateway.alive, "the process has ended")
    assert made.gateway.stop() == -signal.SIGKILL


@pytest.mark.promise(4)
@pytest.mark.parametrize("save", [False, True], ids=["memory", "saved"])
def test_the_third_start_leaves_out_what_ended_the_process_until_it_changes(
    tmp_path: Path, save: bool
) -> None:
    with pair(tmp_path, ours=ENGINE, save=save) as made:
        made.publish(a="1", b="1")
        made.gateway.start()
        made.serves_soon(a="1", b="1")
        made.gateway.wait_for(lambda: made.health()["cache"]["writes"], "it is kept")
        made.publish(b="fatal", c="1")  # in one change with an innocent
        ends(made)
        made.gateway.start(wait=False)
        ends(made)
        made.gateway.start(wait=False)

        made.gateway.wait_for(lambda: made.health().get("failed"), "it is left out")
        made.serves_soon(a="1", b="1", c="1")  # the version before goes on serving
        if save:
            sequences = made.node.folder / "repository" / CONFIGS / "sequences"
            assert {path.name: path.read_bytes() for path in sequences.iterdir()} == {
                f"{name}.xml": sequence_xml(name, "1") for name in "abc"
            }
        reason = made.status()["failed"][api_id_of("b")]
        assert reason.startswith("this node's process ended 2 times while it deployed this")
        (line,) = made.said("artifacts that ended this process twice are left out")
        assert line["api_ids"] == [api_id_of("b")]
        made.publish(a="2")
        made.serves_soon(a="2", b="1", c="1")
        until(lambda: "ended 2 times" in made.control.run("gateways").out, "it is told")

        made.publish(b="2")
        made.serves_soon(a="2", b="2", c="1")
        made.gateway.wait_for(lambda: not made.health()["failed"], "nothing is left out")
        made.gateway.stop()
        made.gateway.start()
        made.serves_soon(a="2", b="2", c="1")
