import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from gatesync.config import ConfigError, adapter_names, load_adapter

pytestmark = pytest.mark.fast

POINTS = EntryPoints(
    [
        EntryPoint("sql", "json:dumps", "some.group"),
        EntryPoint("memory", "json:loads", "some.group"),
        EntryPoint("broken", "no_such_package.x:y", "some.group"),
        EntryPoint("sql", "json:JSONDecoder", "another.group"),
    ]
)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: POINTS.select(group=group))


def test_a_name_is_that_of_an_entry_point() -> None:
    import json

    assert load_adapter("some.group", "memory") is json.loads
    assert adapter_names("some.group") == ["broken", "memory", "sql"]


def test_wso2s_own_names_stand_for_ours() -> None:
    import json

    assert load_adapter("some.group", "DBSaver") is json.dumps


def test_module_and_attribute_need_no_entry_point() -> None:
    import json

    assert load_adapter("some.group", "json:dumps") is json.dumps


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("memry", r"there is no adapter 'memry' in some\.group; did you mean 'memory'\?"),
        ("x", r"Installed: broken, memory, sql\. A name of the form module:attribute"),
        ("broken", r"'broken' cannot be imported: No module named 'no_such_package'; install"),
        ("no_such_package:y", r"cannot be imported: No module named 'no_such_package'"),
        ("json:none", r"module json has no 'none'"),
        (":x", r"cannot be imported"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(name: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        load_adapter("some.group", name, "gatesync.gateway.engine")
    assert "gatesync.gateway.engine: " in str(caught.value)
    assert "no_such_package" not in sys.modules
