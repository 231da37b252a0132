"""What this node should serve, when several labels name the same artifact or route.

A node follows the whole log of each of its labels; which of them wins is decided here, after
that. Precedence is the order of `gateway_labels`, per (tenant, kind, name, version) and, for
APIs, per (tenant, context, version). An artifact wins when nothing is before it under any of its
keys, so the answer does not depend on the order in which changes came. Of tenants that are not
loaded nothing is served.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from gatesync.artifacts.changes import Entry

__all__ = ["Desired", "Loads", "Skipped", "Wanted"]

Loads: TypeAlias = Callable[[str], bool]
"""Whether a tenant, by its domain, is loaded at this node."""

_Key: TypeAlias = tuple[str, ...]
_Candidate: TypeAlias = tuple[int, str]  # rank, api_id: the smallest is preferred


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """An entry that is to be served, and the label that says so."""

    label: str
    entry: Entry


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """An entry that a preferred one shadows: in step, not served."""

    label: str
    entry: Entry
    reason: str


def loads_all(_tenant: str) -> bool:
    return True


class Desired:
    """The candidates of all labels and who wins. Each change costs the keys it touches.

    Args:
        labels: the node's labels, the preferred first.
        loads: which tenants are loaded; all if it is not given.
        why_not: why a label's entry is doubted, see `gateway.verifying`; empty where it is not.
    """

    def __init__(
        self,
        labels: Sequence[str],
        loads: Loads = loads_all,
        why_not: Callable[[str, Entry], str] = lambda _label, _entry: "",
    ) -> None:
        self._labels = tuple(labels)
        self._loads = loads
        self._why_not = why_not
        self._doubted: set[_Candidate] = set()
        self._entries: dict[_Candidate, Entry] = {}
        self._slots: dict[_Key, list[_Candidate]] = {}
        self._contested = 0  # slots with more than one candidate: mostly none, and all win

    def put(
        self, label: str, api_id: str, entry: Entry | None, *, retained: bool = False
    ) -> set[str]:
        """Set or clear a label's candidate; answers with the api_ids whose case may differ now.

        A `retained` candidate stands behind the label's own and before the next label's.
        """
        candidate = (2 * self._labels.index(label) + retained, api_id)
        affected = {api_id}
        old = self._entries.pop(candidate, None)
        if old is not None and entry is not None and self._stays(candidate, label, old, entry):
            self._entries[candidate] = entry
            return affected
        if old is not None:
            for key in self._keys(candidate, old):
                slot = self._slots[key]
                slot.remove(candidate)
                if not slot:
                    del self._slots[key]
                    continue
                self._contested -= len(slot) == 1
                affected.update(other for _, other in slot)
        self._doubted.discard(candidate)
        if entry is not None:
            self._entries[candidate] = entry
            if self._why_not(label, entry):
                self._doubted.add(candidate)
            for key in self._keys(candidate, entry):
                others = self._slots.get(key)
                if others is None:
                    self._slots[key] = [candidate]
                    continue
                insort(others, candidate)
                self._contested += len(others) == 2
                affected.update(other for _, other in others)
        return affected

    def decide(self, api_id: str) -> Wanted | Skipped | None:
        """Whether this artifact is to be served, is shadowed, or is not there."""
        slot = self._slots.get(("id", api_id))
        if not slot:
            return None
        candidate = slot[0]
        entry = self._entries[candidate]
        if candidate in self._doubted:
            return Wanted(self._label(candidate), entry)
        if not self._loads(entry.tenant):
            reason = f"tenant {entry.tenant} is not loaded here (tenant_loading)"
            return Skipped(self._label(candidate), entry, reason)
        for key in _keys(entry) if self._contested else ():
            first = self._slots[key][0]
            if first != candidate:
                other = self._entries[first]
                reason = f"label {self._label(first)!r} has {other.identity} for the same {key[0]}"
                return Skipped(self._label(candidate), entry, reason)
        return Wanted(self._label(candidate), entry)

    def api_ids(self) -> Iterator[str]:
        """Every api_id that any label names."""
        return (key[1] for key in self._slots if key[0] == "id")

    def _stays(self, candidate: _Candidate, label: str, old: Entry, entry: Entry) -> bool:
        """Whether an entry takes the place of the one before it, as most do: nobody else moves."""
        return (
            old.context == entry.context
            and old.identity == entry.identity
            and candidate not in self._doubted
            and not self._why_not(label, entry)
        )

    def _keys(self, candidate: _Candidate, entry: Entry) -> Iterable[_Key]:
        """Where it stands. What is doubted must shadow nothing by a name that it may not have."""
        return (("id", entry.api_id),) if candidate in self._doubted else _keys(entry)

    def _label(self, candidate: _Candidate) -> str:
        return self._labels[candidate[0] // 2]


def _keys(entry: Entry) -> tuple[_Key, ...]:
    own = ("id", entry.api_id)
    name = ("name", entry.tenant, entry.kind, entry.name, entry.version)
    if not entry.context:
        return own, name
    return own, name, ("route", entry.tenant, entry.context, entry.version)
