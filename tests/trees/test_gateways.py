"""`save_artifacts_locally` in real gateways, beside a real pack where there is one."""

import os
import shutil
import signal
from pathlib import Path
from typing import Final

import pytest

from tests.servers.gatesync import EXAMPLES, LABEL, Place, place, sequence_xml, until
from tests.trees.making import CONFIGS, files_in

CORPUS: Final = Path(__file__).resolve().parents[3] / "shared" / "corpus" / "product-apim"
WAITING: Final = ("--label", LABEL, "--wait", "all", "--timeout", "10s")


def saving_place(folder: Path, keys: str = "", tables: str = "") -> Place:
    made = Place(folder, save=True)
    ours = f"[gatesync.gateway]\nlocal_drift_interval = 200\n{keys}\n"
    made.config.write_text(made.config.read_text().replace("[gatesync.gateway]\n", ours) + tables)
    return made


def published(*paths: Path) -> dict[str, bytes]:
    """The files of artifact folders, where a server's tree has them."""
    found = {}
    for path in paths:
        for below, content in files_in(path).items():
            policy = below.startswith("executionplans/")
            found[f"deployment/server/{below}" if policy else f"{CONFIGS}/{below}"] = content
    return {path: body for path, body in found.items() if not path.endswith("artifact.toml")}


def test_a_gateway_keeps_its_artifacts_beside_a_pack_which_stays_as_it_is(tmp_path: Path) -> None:
    if not CORPUS.is_dir():
        pytest.skip("the corpus of real Synapse files is not beside the checkout: ../shared/corpus")
    here = saving_place(tmp_path / "here", 'home = "wso2am"')
    pack = here.folder / "wso2am"
    shutil.copytree(CORPUS, pack, copy_function=shutil.copyfile)
    before = files_in(pack / "repository")
    examples = [EXAMPLES / name for name in ("pizzashack", "menu", "gold-policy")]
    try:
        role = here.role("up").start()
        assert here.run("publish", *examples, *WAITING).code == 0
        assert files_in(pack / "repository") == before | published(*examples)

        edited = pack / "repository" / CONFIGS / "api/admin--MenuAPI_v2.1.0.xml"
        edited.write_bytes(b"<api/>")
        until(lambda: edited.read_bytes() != b"<api/>", "the edited file is restored")
        own = tmp_path / "fault.xml"
        own.write_bytes(sequence_xml("fault"))
        refused = here.run("publish", own, "-l", LABEL, "--wait", "all", "--timeout", "1s")
        assert refused.code == 1
        assert "sequences/fault.xml: belongs to a server's installation" in refused.out
        assert here.run("remove", "fault", "--label", LABEL).code == 0

        assert here.run("remove", "MenuAPI", *WAITING).code == 0
        assert files_in(pack / "repository") == before | published(*examples[::2])
        role.stop(signal.SIGKILL)
        role.start()
        until(lambda: len(here.held()) == 2, "the gateway serves what it served")
        assert here.run("publish", examples[1], *WAITING).code == 0
        assert files_in(pack / "repository") == before | published(*examples)
    finally:
        here.end()


def test_what_is_not_to_be_touched_is_refused_by_name_and_one_home_has_one_gateway(
    tmp_path: Path,
) -> None:
    here = saving_place(
        tmp_path / "here",
        tables="[apim.sync_runtime_artifacts.gateway.skip_list]\nsequences = ['skipped.xml']\n",
    )
    foreign = here.folder / "repository" / CONFIGS / "sequences/foreign.xml"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"mine")
    expected = {
        "skipped": "sequences/skipped.xml: is in this node's skip_list",
        "foreign": f"{foreign}: gatesync did not write this file",
        "good": "applied after",
    }
    try:
        here.role("up").start()
        for name, said in expected.items():
            path = tmp_path / f"{name}.xml"
            path.write_bytes(sequence_xml(name))
            done = here.run("publish", path, "-l", LABEL, "--wait", "all", "--timeout", "1s")
            assert said in done.out
        assert set(here.held()) == {"good"}
        assert set(files_in(foreign.parent)) == {"foreign.xml", "good.xml"}
        assert foreign.read_bytes() == b"mine"

        with place(tmp_path / "other", node="gw2", publisher=here.publisher, save=True) as other:
            here.give_token(other, LABEL)
            home = f'[gatesync.gateway]\nhome = "{os.path.relpath(here.folder, other.folder)}"\n'
            text = other.config.read_text()
            other.config.write_text(text.replace("[gatesync.gateway]\n", home))
            second = other.run("gateway", "--config", other.config)
            assert second.code == 2
            assert "another gateway saves its artifacts there" in second.err
        assert set(here.held()) == {"good"}
    finally:
        here.end()


def test_one_that_is_not_to_save_writes_nothing(tmp_path: Path) -> None:
    with place(tmp_path / "here") as here:
        here.role("up").start()
        assert here.run("publish", EXAMPLES / "menu", *WAITING).code == 0
        assert not (here.folder / "repository").exists()
        assert not (here.data / "saved-tree").exists()
