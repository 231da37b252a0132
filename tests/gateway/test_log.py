from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.changes import Change, Cursor, Entry, Instruction
from gatesync.artifacts.digests import EMPTY_LABEL
from gatesync.artifacts.errors import FormatError
from gatesync.gateway import log as log_module
from gatesync.gateway.log import Decision, LabelLog
from tests.contracts.saves import id_of
from tests.gateway.makers import EPOCH, OTHER, History, digest_over, entry, without_confirmation

pytestmark = pytest.mark.fast


def listed(history: History) -> LabelLog:
    """A log that took the history's list and has nothing left to tell."""
    log = LabelLog(history.label)
    log.take_list(history.head, history.entries, continues=True)
    log.touched.clear()
    return log


def names(entries: Iterable[Entry]) -> set[str]:
    return {each.name for each in entries}


def agrees(log: LabelLog, history: History) -> bool:
    return (log.cursor, log.digest, log.entries) == (
        history.head.cursor,
        history.head.digest,
        history.entries,
    )


# Events.


def test_nothing_is_taken_before_the_first_list() -> None:
    log, history = LabelLog("L"), History()
    change_set = history.publish("menu")
    assert log.offer_change_set(change_set) is Decision.PULL
    assert log.offer_head(history.head) is Decision.PULL
    assert log.judge(history.head, None) is Decision.PULL
    assert log.cursor is None
    assert not log.entries


def test_the_next_change_set_is_taken() -> None:
    history = History()
    log = listed(history)
    assert log.offer_change_set(history.publish("menu", "bread")) is Decision.TAKEN
    assert log.offer_change_set(history.publish("menu", version=2)) is Decision.TAKEN
    assert log.offer_change_set(history.remove("bread")) is Decision.TAKEN
    assert agrees(log, history)
    assert log.touched == {id_of("menu"), id_of("bread")}


@pytest.mark.promise(7)
def test_an_old_change_set_changes_nothing() -> None:
    history = History()
    log = listed(history)
    change_sets = [history.publish("menu"), history.publish("bread"), history.remove("menu")]
    for each in change_sets:
        log.offer_change_set(each)
    log.touched.clear()
    for each in change_sets:
        assert log.offer_change_set(each) is Decision.OLD
    assert agrees(log, history)
    assert not log.touched


@pytest.mark.promise(7)
def test_an_old_revision_that_is_no_longer_remembered_is_old() -> None:
    history = History(revision=5)
    log = listed(history)
    stranger = History(revision=2)
    assert log.offer_change_set(stranger.publish("menu")) is Decision.OLD


def test_a_gap_asks_for_the_difference() -> None:
    history = History()
    log = listed(history)
    missed, after = history.publish("menu"), history.publish("bread")
    assert log.offer_change_set(after) is Decision.PULL
    assert log.offer_change_set(missed) is Decision.TAKEN
    assert log.offer_change_set(after) is Decision.TAKEN
    assert agrees(log, history)


def test_a_gap_is_found_by_previous_and_not_by_counting() -> None:
    history = History()
    log = listed(history)
    sparse = msgspec.structs.replace(history.publish("menu"), revision=7)
    assert log.offer_change_set(sparse) is Decision.TAKEN
    assert log.cursor == Cursor(EPOCH, 7)


@pytest.mark.promise(8)
def test_a_change_set_whose_label_digest_does_not_come_out_is_not_taken() -> None:
    history = History()
    log = listed(history)
    change_set = history.publish("menu")
    forged = msgspec.structs.replace(
        change_set, changes=(Change(Instruction.PUBLISH, entry("menu", "forged", revision=1)),)
    )
    assert log.offer_change_set(forged) is Decision.PULL
    assert not log.entries
    assert not log.touched
    assert log.offer_change_set(change_set) is Decision.TAKEN


@pytest.mark.promise(6)
def test_an_event_of_another_epoch_is_asked_about() -> None:
    log = listed(History())
    assert log.offer_change_set(History(epoch=OTHER).publish("menu")) is Decision.ASK
    assert log.offer_head(History(epoch=OTHER, revision=9).head) is Decision.ASK
    assert log.cursor == Cursor(EPOCH, 0)


@pytest.mark.promise(6)
def test_a_known_revision_with_another_digest_is_asked_about() -> None:
    history = History()
    log = listed(history)
    log.offer_change_set(history.publish("menu"))
    other = History()
    forked = other.publish("bread")
    assert log.offer_change_set(forked) is Decision.ASK
    assert log.offer_head(other.head) is Decision.ASK
    log.offer_change_set(history.publish("olives"))
    assert log.offer_change_set(forked) is Decision.ASK  # below the cursor, and remembered
    assert log.offer_head(other.head) is Decision.ASK
    assert agrees(log, history)


def test_a_bounded_number_of_revisions_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "REMEMBERED_REVISIONS", 3)
    history, other = History(), History()
    log = listed(history)
    forks = [other.publish("bread", version=number) for number in range(5)]
    for number in range(5):
        log.offer_change_set(history.publish("menu", version=number))
    answers = [log.offer_change_set(fork) for fork in forks]
    assert answers == [Decision.OLD] * 2 + [Decision.ASK] * 3


# Heads.


def test_a_head_that_is_mine_is_a_proof() -> None:
    history = History()
    log = listed(history)
    log.offer_change_set(history.publish("menu"))
    assert log.offer_head(history.head) is Decision.TAKEN


def test_a_head_ahead_of_me_asks_for_the_difference() -> None:
    history = History()
    log = listed(history)
    history.publish("menu")
    assert log.offer_head(history.head) is Decision.PULL


@pytest.mark.promise(7)
def test_an_earlier_head_of_this_history_is_old_and_no_proof() -> None:
    history = History()
    log = listed(history)
    log.offer_change_set(history.publish("menu"))
    earlier = history.head
    log.offer_change_set(history.publish("bread"))
    assert log.offer_head(earlier) is Decision.OLD


# What the store itself says.


@pytest.mark.promise(6)
def test_the_stores_own_head_below_mine_is_another_history() -> None:
    history = History()
    log = listed(history)
    log.offer_change_set(history.publish("menu"))
    backup = history.copy()
    log.offer_change_set(history.publish("bread"))
    assert log.judge(backup.head, log.cursor) is Decision.LIST
    assert agrees(log, history)


@pytest.mark.promise(6)
def test_the_stores_own_head_of_another_epoch_is_another_history() -> None:
    history = History()
    log = listed(history)
    assert log.judge(History(epoch=OTHER).head, log.cursor) is Decision.LIST


@pytest.mark.promise(6)
def test_the_stores_own_head_with_another_digest_is_another_history() -> None:
    history, other = History(), History()
    log = listed(history)
    log.offer_change_set(history.publish("menu"))
    other.publish("bread")
    assert log.judge(other.head, log.cursor) is Decision.LIST


def test_an_answer_that_was_on_its_way_while_the_log_moved_on_is_no_other_history() -> None:
    history = History()
    log = listed(history)
    known, answer = log.cursor, history.head
    log.offer_change_set(history.publish("menu"))
    assert log.judge(answer, known) is Decision.OLD


def test_an_answer_about_a_history_that_was_left_meanwhile_is_old() -> None:
    history, other = History(), History(epoch=OTHER)
    log = listed(history)
    known, answer = log.cursor, history.head
    log.take_list(other.head, other.entries, continues=False)
    assert log.judge(answer, known) is Decision.OLD


# Differences.


def test_a_difference_from_the_cursor_is_taken() -> None:
    history = History()
    log = listed(history)
    log.offer_change_set(history.publish("menu", "bread"))
    gone = history.entries[id_of("bread")]
    history.remove("bread")
    history.publish("olives")
    changes = (
        Change(Instruction.REMOVE, gone),
        Change(Instruction.PUBLISH, history.entries[id_of("olives")]),
    )
    log.touched.clear()
    assert log.offer_delta(1, history.head, changes) is Decision.TAKEN
    assert agrees(log, history)
    assert log.touched == {id_of("bread"), id_of("olives")}


@pytest.mark.promise(6)
def test_a_difference_that_does_not_come_out_asks_for_the_list_and_removes_nothing() -> None:
    history = History()
    log = listed(history)
    log.offer_change_set(history.publish("menu", "bread"))
    log.touched.clear()
    ahead = msgspec.structs.replace(history.head, revision=5, digest=EMPTY_LABEL)
    cut_short = (Change(Instruction.REMOVE, history.entries[id_of("menu")]),)
    assert log.offer_delta(1, ahead, cut_short) is Decision.LIST
    assert agrees(log, history)
    assert not log.touched


def test_a_difference_from_elsewhere_than_the_cursor_is_not_taken() -> None:
    history = History()
    log = listed(history)
    log.offer_change_set(history.publish("menu"))
    assert log.offer_delta(0, history.head, ()) is Decision.OLD  # the log moved on meanwhile
    assert log.offer_delta(1, History(epoch=OTHER).head, ()) is Decision.LIST
    assert LabelLog("L").offer_delta(0, history.head, ()) is Decision.LIST


@pytest.mark.promise(6)
def test_a_difference_leads_forward() -> None:
    """What it would remove by going back, or by standing still, takes a list and its proof."""
    history = History()
    history.publish("menu")
    before = history.copy()
    change = history.publish("bread").changes[0]
    log = listed(history)
    back = Change(Instruction.REMOVE, change.entry)
    assert log.offer_delta(2, before.head, (back,)) is Decision.LIST
    still = msgspec.structs.replace(before.head, revision=2)
    assert log.offer_delta(2, still, (back,)) is Decision.LIST
    assert log.offer_delta(2, history.head, ()) is Decision.TAKEN
    assert agrees(log, history)
    assert agrees(log, history)


# Lists.


def test_a_list_that_continues_replaces_everything() -> None:
    history = History()
    log = listed(history)
    log.offer_change_set(history.publish("menu", "bread"))
    log.touched.clear()
    history.remove("bread")
    history.publish("menu", version=2)
    history.publish("olives")
    assert log.take_list(history.head, history.entries, continues=True) == 0
    assert agrees(log, history)
    assert log.touched == {id_of("bread"), id_of("menu"), id_of("olives")}
    assert not log.retained


def test_what_a_list_does_not_change_is_not_touched() -> None:
    history = History()
    history.publish("menu")
    log = listed(history)
    log.take_list(history.head, history.entries, continues=True)
    assert not log.touched


@pytest.mark.promise(6)
def test_another_history_adds_and_changes_at_once_and_removes_nothing() -> None:
    mine = History()
    mine.publish("menu", "bread")
    log = listed(mine)
    other = History(epoch=OTHER)
    other.publish("menu", version=2)
    other.publish("olives")
    assert log.take_list(other.head, other.entries, continues=False) == 1
    assert agrees(log, other)
    assert names(log.retained.values()) == {"bread"}
    assert log.offer_head(other.head) is Decision.TAKEN  # in step, and the removal still waits
    assert names(log.retained.values()) == {"bread"}


@pytest.mark.promise(6)
def test_after_the_histories_parted_old_revisions_are_judged_by_the_new_one() -> None:
    mine = History()
    log = listed(mine)
    first = mine.publish("menu")
    log.offer_change_set(first)
    log.offer_change_set(mine.publish("bread"))
    backup = History()
    other = [backup.publish("olives")]
    log.take_list(backup.head, backup.entries, continues=False)
    assert log.offer_change_set(other[0]) is Decision.OLD
    assert log.offer_change_set(first) is Decision.ASK
    assert log.offer_change_set(backup.publish("ham")) is Decision.TAKEN


def parted() -> tuple[LabelLog, History]:
    """A log that keeps `bread` and `ham`, which the other history does not have."""
    mine = History()
    mine.publish("menu", "bread", "ham")
    log = listed(mine)
    other = History(epoch=OTHER)
    other.publish("menu")
    log.take_list(other.head, other.entries, continues=False)
    log.touched.clear()
    assert names(log.retained.values()) == {"bread", "ham"}
    return log, other


@pytest.mark.promise(6)
def test_a_confirmation_carries_out_what_was_held() -> None:
    log, other = parted()
    assert log.offer_head(other.confirm("yes")) is Decision.TAKEN
    assert not log.retained
    assert log.touched == {id_of("bread"), id_of("ham")}


def test_a_confirmation_comes_with_a_difference_too() -> None:
    log, other = parted()
    added = other.publish("olives")
    other.confirm("yes")
    assert log.offer_delta(1, other.head, added.changes) is Decision.TAKEN
    assert not log.retained


@pytest.mark.promise(6)
def test_a_confirmation_that_came_before_the_histories_parted_does_not_count() -> None:
    mine = History()
    mine.publish("menu", "bread")
    log = listed(mine)
    other = History(epoch=OTHER)
    other.publish("menu")
    other.confirm("for something else")
    log.take_list(other.head, other.entries, continues=False)
    assert log.offer_head(other.head) is Decision.TAKEN
    assert names(log.retained.values()) == {"bread"}
    assert log.offer_head(other.confirm("for this")) is Decision.TAKEN
    assert not log.retained


@pytest.mark.promise(6)
def test_a_confirmation_counts_once() -> None:
    mine = History()
    mine.publish("menu", "bread")
    log = listed(mine)
    used = mine.confirm("yes")
    log.offer_head(used)
    backup = History()
    backup.publish("menu")
    backup.confirmation = used.confirmation
    log.take_list(without_confirmation(backup.head), backup.entries, continues=False)
    assert log.offer_head(backup.head) is Decision.TAKEN
    assert names(log.retained.values()) == {"bread"}


@pytest.mark.promise(6)
def test_a_confirmation_of_another_epoch_does_not_count() -> None:
    log, other = parted()
    other.confirm("yes")
    assert other.confirmation is not None
    other.confirmation = msgspec.structs.replace(other.confirmation, epoch=EPOCH)
    assert log.offer_head(other.head) is Decision.TAKEN
    assert log.retained


@pytest.mark.promise(6)
def test_a_list_that_continues_does_not_carry_out_what_was_held_before() -> None:
    log, other = parted()
    other.publish("olives")
    log.take_list(other.head, other.entries, continues=True)
    assert names(log.retained.values()) == {"bread", "ham"}


def test_what_comes_back_is_no_longer_held() -> None:
    log, other = parted()
    assert log.offer_change_set(other.publish("bread", version=2)) is Decision.TAKEN
    assert names(log.retained.values()) == {"ham"}
    other.publish("ham")
    log.take_list(other.head, other.entries, continues=True)
    assert not log.retained


def test_an_explicit_removal_of_what_was_held_is_carried_out() -> None:
    log, other = parted()
    held = log.retained[id_of("bread")]
    other.publish("olives")
    changes = [
        Change(Instruction.PUBLISH, other.entries[id_of("olives")]),
        Change(Instruction.PUBLISH, held),
    ]
    with_both = msgspec.structs.replace(
        other.head, digest=other.head.digest.add(held.api_id, held.digest)
    )
    assert log.offer_delta(1, with_both, changes) is Decision.TAKEN
    other.entries[held.api_id] = held
    assert log.offer_change_set(other.remove("bread")) is Decision.TAKEN
    assert names(log.retained.values()) == {"ham"}
    assert id_of("bread") not in log.entries


@pytest.mark.promise(6)
def test_a_second_parting_keeps_what_the_first_one_held() -> None:
    log, _ = parted()
    third = History(epoch="epoch-3")
    third.publish("olives")
    assert log.take_list(third.head, third.entries, continues=False) == 3
    assert names(log.retained.values()) == {"bread", "ham", "menu"}


# A history that those who write it could rewrite.


@pytest.mark.promise(6)
def test_of_a_weak_history_a_list_without_most_of_the_label_waits() -> None:
    history = History()
    history.publish("menu", "bread", "ham")
    log = listed(history)
    history.remove("bread", "ham")
    head = history.confirm("long ago")
    assert log.take_list(head, history.entries, continues=True, weak=True) == 2
    assert agrees(log, history)
    assert names(log.retained.values()) == {"bread", "ham"}
    assert log.offer_head(head) is Decision.TAKEN
    assert log.retained, "a confirmation that came along is none"
    assert log.offer_change_set(history.publish("olives")) is Decision.TAKEN
    assert log.offer_head(history.confirm("now")) is Decision.TAKEN
    assert not log.retained


@pytest.mark.promise(6)
@pytest.mark.parametrize("weak", [True, False])
def test_up_to_half_of_a_label_goes_at_once_and_all_of_a_history_that_is_not_weak(
    weak: bool,
) -> None:
    history = History()
    history.publish("menu", "bread")
    log = listed(history)
    history.remove(*(["bread"] if weak else ["menu", "bread"]))
    assert log.take_list(history.head, history.entries, continues=True, weak=weak) == 0
    assert agrees(log, history)
    assert not log.retained


# What is kept over a restart.


def restarted(log: LabelLog) -> LabelLog:
    return LabelLog.restored(log.label, log.state(), dict(log.entries), dict(log.retained))


@pytest.mark.promise(10)
def test_a_restored_log_goes_on_where_it_was() -> None:
    history = History()
    log = listed(history)
    old = history.publish("menu")
    log.offer_change_set(old)
    log = restarted(log)
    assert agrees(log, history)
    assert log.touched == {id_of("menu")}
    assert log.offer_change_set(old) is Decision.OLD
    assert log.offer_change_set(History().publish("bread")) is Decision.ASK  # remembered
    assert log.offer_head(history.head) is Decision.TAKEN
    assert log.offer_change_set(history.publish("bread")) is Decision.TAKEN
    assert agrees(log, history)


def test_a_log_that_was_never_listed_is_restored_as_such() -> None:
    log = restarted(LabelLog("L"))
    assert log.cursor is None
    assert log.offer_head(History().head) is Decision.PULL


@pytest.mark.promise(6)
def test_a_restored_log_holds_what_another_history_may_not_remove() -> None:
    log, other = parted()
    held = set(log.retained)
    assert held
    log = restarted(log)
    assert log.retained.keys() == held
    assert log.touched == log.entries.keys() | held
    log.offer_head(other.confirm("go"))
    assert not log.retained
    assert restarted(log).state() == log.state()


@pytest.mark.promise(8)
def test_a_log_is_not_restored_from_other_entries_than_its_own() -> None:
    log, _ = parted()
    state, entries, retained = log.state(), log.entries, log.retained
    [some, *_] = entries.values()
    forged = msgspec.structs.replace(some, digest=entry("forged").digest)
    one_short = {k: v for k, v in entries.items() if k != some.api_id}
    none_held: dict[str, Entry] = {}
    for mine, held in (
        (entries | {forged.api_id: forged}, retained),
        (one_short, retained),
        (entries | retained, retained),
        (entries, none_held),
    ):
        with pytest.raises(FormatError, match=r"'L'.*do not add up"):
            LabelLog.restored("L", state, mine, held)


def test_a_state_is_of_one_moment() -> None:
    history = History()
    log = listed(history)
    state = log.state()
    log.offer_change_set(history.publish("menu"))
    assert state.cursor == Cursor(EPOCH, 0)
    assert state.digest == EMPTY_LABEL
    assert len(state.remembered) == 1


_step = st.tuples(
    st.sampled_from(["publish", "remove"]), st.sampled_from("abcde"), st.integers(1, 3)
)


@pytest.mark.promise(7)
@given(steps=st.lists(_step, max_size=12), order=st.data())
def test_whatever_the_order_only_the_next_is_taken_and_the_sum_is_right(
    steps: list[tuple[str, str, int]], order: st.DataObject
) -> None:
    history = History()
    log = listed(history)
    change_sets = []
    states = [dict(history.entries)]
    for what, name, version in steps:
        if what == "publish":
            change_sets.append(history.publish(name, version=version))
        elif id_of(name) in history.entries:
            change_sets.append(history.remove(name))
        else:
            continue
        states.append(dict(history.entries))
    offered = order.draw(st.permutations(change_sets * 2))
    for each in offered:
        before = log.cursor
        decision = log.offer_change_set(each)
        assert log.cursor is not None
        assert before is not None
        expected = Decision.PULL
        if each.revision <= before.revision:
            expected = Decision.OLD
        elif each.revision == before.revision + 1:
            expected = Decision.TAKEN
        assert decision is expected
        assert log.entries == states[log.cursor.revision]
        assert log.digest == digest_over(list(log.entries.values()))
