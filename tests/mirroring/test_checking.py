"""What is checked piece by piece comes out as if all of it had been checked at once."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatesync.mirroring.checking import TreeChecker
from gatesync.mirroring.scanning import ScannedFile, TreeScanner
from tests.mirroring.trees import Clock, api, api_file, endpoint, endpoint_file, sequence, write
from tests.mirroring.trees import sequence_file as sequence_in
from tests.stores.budget import BUDGET

pytestmark = pytest.mark.fast

UUID: Final = "3b37c2e0-5b08-4b1a-a67f-8e086873e2ad"
LOCAL: Final = f"deployment/server/synapse-configs/default/local-entries/{UUID}.xml"
NAMED: Final = f'<handler class="h"><property name="apiUUID" value="{UUID}"/></handler>'
WITH_UUID: Final = api("Menu").replace("</api>", f"<handlers>{NAMED}</handlers></api>")
CONTENTS: Final[dict[str, list[str]]] = {
    api_file("Menu"): [api("Menu"), WITH_UUID, api("Menu", inside="<log/>"), api("Menu")[:-4]],
    api_file("Menu", "1.0.0.1"): [api("Menu", "1.0.0.1"), api("Menu", "1.0.0")],
    api_file("Cart"): [api("Cart"), api("Cart", context="/menu/1.0.0")],
    endpoint_file("Menu--v1.0.0_APIproductionEndpoint"): [
        endpoint("Menu--v1.0.0_APIproductionEndpoint"),
        endpoint("Menu--v1.0.0_APIproductionEndpoint") + "\n",
        "<endpoint",
    ],
    sequence_in("Menu--v1.0.0.1--In"): [sequence("Menu--v1.0.0.1--In"), sequence("audit")],
    sequence_in("audit"): [sequence("audit"), sequence("Menu--v1.0.0--In")],
    LOCAL: [f'<localEntry key="{UUID}">x</localEntry>', "<localEntry/>"],
}
_edits = st.lists(
    st.sampled_from([(path, text) for path, texts in CONTENTS.items() for text in (*texts, "")]),
    min_size=1,
    max_size=10,
)


def scanned(root: Path) -> Mapping[str, ScannedFile]:
    return TreeScanner(root, clock=Clock().ns).scan().files


@settings(max_examples=max(20, round(150 * BUDGET)), deadline=None)
@given(_edits, st.integers(1, 3))
def test_piece_by_piece_is_as_good_as_at_once(edits: list[tuple[str, str]], at_once: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="gatesync-checking-"))
    try:
        for path, texts in CONTENTS.items():
            write(folder, path, texts[0])
        files = scanned(folder)
        checker = TreeChecker(folder)
        checker.check(files, files.keys())
        for start in range(0, len(edits), at_once):
            for path, text in edits[start : start + at_once]:
                write(folder, path, text) if text else (folder / path).unlink(missing_ok=True)
            before, files = files, scanned(folder)
            changed = {p for p in before.keys() | files.keys() if before.get(p) != files.get(p)}
            checked = checker.check(files, changed)
            # What is good belongs to one artifact each, and all of its files are there.
            parts = [path for group in checker.groups.values() for path in group.paths]
            assert sorted(parts) == sorted(checked.good)
            assert {problem.where for problem in checked.problems} <= files.keys()
        fresh = TreeChecker(folder)
        whole = fresh.check(files, files.keys())
        if not whole.problems:
            assert checker.groups == fresh.groups
            assert checked.good == whole.good
            assert (checked.problems, checked.held) == ((), set())
        else:
            assert checked.problems
    finally:
        shutil.rmtree(folder)
