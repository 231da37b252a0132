import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.changes import ChangeSet
from gatesync.artifacts.digests import EMPTY_LABEL

pytestmark = pytest.mark.fast

EPOCH = "9f1c2d3e-5b08-4b1a-a67f-8e086873e2ad"
SET = ChangeSet("Production", EPOCH, 12, 11, (), EMPTY_LABEL, 0)


def test_a_change_set_is_called_by_label_revision_and_epoch() -> None:
    assert SET.id == "Production@12.9f1c2d3e"


@given(st.text(alphabet="ab@.12", max_size=6), st.integers(0, 99), st.sampled_from([EPOCH, "e"]))
def test_whatever_the_label_holds_its_name_says_which_one(
    label: str, revision: int, epoch: str
) -> None:
    made = msgspec.structs.replace(SET, label=label, revision=revision, epoch=epoch)
    name, _, rest = made.id.rpartition("@")
    assert (name, *rest.split(".")) == (label, str(revision), epoch[:8])
