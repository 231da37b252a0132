"""What rsync says, and what is made of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.mirroring.rsync import check_bandwidth, comparison_of, in_words

pytestmark = pytest.mark.fast

SAID = b"""\
*deleting   full/x
*deleting   full/
*deleting   we\\#012ird
*deleting   back\\#134#012x
.d          ./
<f+++++++++ new.xml
.f...p..... mode.xml
.f..t...... time.xml
.f          a  b.xml
skipping non-regular file "b/link"
<fc.T...... content.xml
<fcsT...... size.xml
cd+++++++++ b/

Number of files: 7
"""


def test_a_dry_run_tells_what_is_equal_and_what_is_extra() -> None:
    found = comparison_of(SAID)
    assert found.equal == {"time.xml", "a  b.xml"}
    assert found.extra == ("full/x", "full/", "we\nird", "back\\#012x")


@given(st.binary())
def test_whatever_it_says_is_taken_for_what_it_can_be(said: bytes) -> None:
    comparison_of(said)


def test_exit_codes_have_words() -> None:
    assert in_words(23) == "rsync 23: some files could not be brought or removed"
    assert in_words(99) == "rsync 99: an unknown exit code"
    assert in_words(-9) == "rsync was ended by signal 9"


@pytest.mark.parametrize("good", ["500", "1.5m", "10G", "2MiB"])
def test_a_bandwidth_is_what_rsync_takes(good: str) -> None:
    assert check_bandwidth(good) == good


@pytest.mark.parametrize("bad", ["", "fast", "-1", "1 m", "--delete"])
def test_what_is_no_bandwidth_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="is no bandwidth"):
        check_bandwidth(bad)
