"""What a publisher takes over on nobody's request stands in its audit log."""

from pathlib import Path

import msgspec
import pytest

from gatesync.artifacts.planning import SaveRequest
from gatesync.publisher.audit_commits import recorded_commit
from gatesync.publisher.audit_file import AuditFile, read_entries
from gatesync.publisher.audit_log import AuditLog, open_audit_log
from gatesync.stores.memory import MemoryStore
from gatesync.stores.store import Refused, SaveOutcome, StoreError
from tests.contracts.saves import asked, publish, remove

pytestmark = pytest.mark.fast

SOURCE = "share /mnt/apim"


async def test_what_was_saved_or_refused_is_an_entry(tmp_path: Path) -> None:
    store = MemoryStore()

    async def commit(request: SaveRequest) -> SaveOutcome | Refused:
        [answer] = await store.save([request])
        return answer

    log = AuditLog(AuditFile(tmp_path))
    recorded = recorded_commit(commit, log, "take over", SOURCE)
    menu = asked("Shop", publish("Menu"), key="k1")
    async with open_audit_log(log):
        for request in (menu, menu, asked("Shop", remove("Bread"), key="k2")):
            await recorded(request)
    entries = read_entries(tmp_path, limit=10)
    assert [(e.verb, e.detail, e.who.id, e.outcome) for e in entries] == [
        ("take over", SOURCE, "p1", "done"),
        ("take over", SOURCE, "p1", "repeated"),
        ("take over", SOURCE, "p1", "refused"),
    ]
    done, _, refused = entries
    assert [(e.name, e.digest) for e in done.artifacts] == [
        ("Menu", menu.sets[0][0].entry.digest)  # type: ignore[union-attr]
    ]
    assert [(r.label, r.first) for r in done.revisions] == [("Shop", 1)]
    assert refused.reasons


async def test_nothing_is_taken_over_while_a_required_log_cannot_be_written(
    tmp_path: Path,
) -> None:
    asked_for: list[SaveRequest] = []

    async def commit(request: SaveRequest) -> SaveOutcome | Refused:
        asked_for.append(request)
        return SaveOutcome((), ())

    request = asked("Shop", publish("Menu"), key="k1")
    file = tmp_path / "there"
    log = AuditLog(AuditFile(file), required=True)
    recorded = recorded_commit(commit, log, "take over", SOURCE)
    file.write_text("no folder")
    async with open_audit_log(log):
        with pytest.raises(StoreError, match="without an audit log"):
            await recorded(request)
        assert not asked_for
        file.unlink()
        file.mkdir()
        await recorded(msgspec.structs.replace(request, key="k2"))
    assert len(asked_for) == 1
    assert {e.outcome for e in read_entries(file, limit=10)} == {"asked", "done"}
