"""docs/gateway-http.md says what the gateway's HTTP does."""

import re
from pathlib import Path

import msgspec
import pytest

from gatesync.config import WhenStale
from gatesync.gateway import admin, wso2_admin
from gatesync.gateway.health import Health, LabelStatus, SavedHealth
from gatesync.gateway.staleness import StalenessRule, readiness_of, unserved
from gatesync.web.git_hook import HOOK_PATH

pytestmark = pytest.mark.fast

PAGE = Path(__file__).parents[2] / "docs" / "gateway-http.md"
COMMON = {"/health/live", "/health/ready", "/metrics", "/openapi"}


def rows(columns: int) -> list[list[str]]:
    found = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line[:3] == "| `"]
    return [[cell.strip() for cell in row] for row in found if len(row) == columns]


def names(cell: str) -> list[str]:
    return re.findall(r"`([\w.-]+)`", cell)


def test_every_path_is_on_the_page_and_every_path_of_the_page_is_there() -> None:
    written = {
        (method, path.partition("?")[0])
        for row in rows(3) + rows(2)
        for method, path in re.findall(r"^`(GET|POST) (\S+)`$", row[0])
    }
    served = {
        (method, path)
        for handler in [*admin._HANDLERS, *wso2_admin.HANDLERS]
        for path in handler.paths
        for method in handler.http_methods
        if method in {"GET", "POST"}
    }
    assert written == served | {("GET", path) for path in COMMON} | {("POST", HOOK_PATH)}


def test_every_field_of_readiness_is_on_the_page() -> None:
    written = [name for row in rows(2) for name in names(row[0])]
    fields = msgspec.structs.fields
    expected = [each.name for kind in (Health, LabelStatus) for each in fields(kind)]
    assert sorted(written) == sorted(expected)
    text = PAGE.read_text()
    assert all(f"`{each.name}`" in text for each in fields(SavedHealth))


def test_every_status_is_on_the_page_with_its_code() -> None:
    written = {(names(row[0])[0], row[1]) for row in rows(3) if row[1].isdigit()}
    told = [readiness_of(False, {}, StalenessRule()), readiness_of(True, {}, StalenessRule())]
    told += [readiness_of(True, {"L": None}, StalenessRule(1.0, when)) for when in WhenStale]
    told.append(unserved("Envoy is away"))
    assert written == {(each.status, "200" if each.ready else "503") for each in told}
