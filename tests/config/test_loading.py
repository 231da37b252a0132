from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatesync.config import Address, ConfigError, LogFormat, RetrievalMode, check, known_keys, load
from gatesync.config.describe import as_toml, describe
from gatesync.stores.sql_source import SqlSource
from tests.config.conftest import Reading, Write

pytestmark = pytest.mark.fast


def test_without_a_file_everything_has_its_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load(None, environ={}, hostname="a.host_1")
    assert loaded.path is None
    assert loaded.warnings == ()
    found = loaded.settings
    assert (found.server.offset, found.server.node_id) == (0, "a-host_1")
    assert found.data == tmp_path / "gatesync-data"
    assert found.heartbeat_interval_ms == 5_000
    assert (found.log_format, found.log_level) == ("console", "info")
    assert found.publisher.listen == Address("127.0.0.1", 9640)
    assert found.gateway.listen == Address("127.0.0.1", 9641)
    assert found.traffic_manager.listen == Address("127.0.0.1", 9642)
    assert found.gateway.gateway_labels == ("Production and Sandbox",)
    assert found.gateway.save_artifacts_locally is None
    assert found.event_hub.service_url == "http://127.0.0.1:9640"
    embedded = tmp_path / "gatesync-data" / "artifacts.db"
    assert found.database.source == SqlSource.sqlite(embedded)
    assert found.environments == ()


@pytest.mark.parametrize("hostname", ["", "--", "ü", "x" * 200, "10.0.0.1", "_a"])
@pytest.mark.parametrize("offset", [0, 50_000])
def test_any_host_name_gives_a_valid_node_id(write: Write, hostname: str, offset: int) -> None:
    from gatesync.artifacts.names import check_node_id

    loaded = load(write(f"server.offset = {offset}"), environ={}, hostname=hostname)
    check_node_id(loaded.settings.server.node_id)


def test_nodes_on_one_host_get_different_ids_by_their_offset(reading: Reading) -> None:
    ids = {reading.load(f"server.offset = {n}").settings.server.node_id for n in range(3)}
    assert ids == {"host", "host-1", "host-2"}


def test_the_offset_shifts_every_listening_port_but_0(reading: Reading) -> None:
    found = reading.load(
        """
        [server]
        offset = "10"
        [gatesync]
        gateway.listen = "[::1]:7000"
        traffic_manager.listen = "localhost:0"
        """
    ).settings
    assert found.publisher.listen == Address("127.0.0.1", 9650)
    assert str(found.gateway.listen) == "[::1]:7010"
    assert found.traffic_manager.listen == Address("localhost", 0)
    assert found.event_hub.service_url == "http://127.0.0.1:9650"


def test_the_default_service_url_follows_the_publisher(reading: Reading) -> None:
    loaded = reading.load(
        "gatesync.publisher.listen = '0.0.0.0:7000'\ngatesync.allow_plaintext = true"
    )
    assert loaded.settings.event_hub.service_url == "http://127.0.0.1:7000"


def test_paths_are_taken_from_the_files_folder(reading: Reading, tmp_path: Path) -> None:
    found = reading.load(
        """
        [gatesync]
        data = "here/data"
        gateway.token_file = "../node.token"
        traffic_manager.binary = "/opt/nats-server"
        event_hub.credentials_file = "~/credentials.json"
        [database.sync_runtime_artifacts_db]
        url = "jdbc:sqlite:store/artifacts.db"
        """
    ).settings
    assert found.data == tmp_path / "here/data"
    assert found.gateway.token_file == tmp_path / "../node.token"
    assert found.traffic_manager.binary == Path("/opt/nats-server")
    assert found.event_hub.credentials_file == Path.home() / "credentials.json"
    assert found.database.type == "sqlite"
    assert found.database.source == SqlSource.sqlite(tmp_path / "store/artifacts.db")


@pytest.mark.parametrize(
    ("file", "home"),
    [
        ("deployment.toml", "."),
        ("repository/conf/deployment.toml", "."),
        ("apim/repository/conf/../conf/node.toml", "apim"),
        ("conf/deployment.toml", "conf"),
        ("repository/deployment.toml", "repository"),
        ("repository/conf/more/deployment.toml", "repository/conf/more"),
    ],
)
def test_a_gateway_is_at_home_in_the_pack_that_its_file_lies_in(
    tmp_path: Path, file: str, home: str
) -> None:
    path = tmp_path / file
    path.parent.resolve().mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    assert load(path).settings.gateway.home == (tmp_path / home)
    path.write_text("gatesync.gateway.home = '../wso2am'")
    assert load(path).settings.gateway.home == path.parent / "../wso2am"


def test_without_a_file_a_gateway_is_at_home_where_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "repository/conf"
    conf.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert load(None).settings.gateway.home == tmp_path
    monkeypatch.chdir(conf)
    assert load(None).settings.gateway.home == tmp_path


def test_values_may_be_strings_as_wso2_documents_them(reading: Reading) -> None:
    found = reading.load(
        """
        [apim.sync_runtime_artifacts.publisher]
        publish_directly_to_gateway = "False"
        [apim.sync_runtime_artifacts.gateway]
        deployment_retry_duration = "2000"
        data_retrieval_mode = "ASYNC"
        save_artifacts_locally = "true"
        event_waiting_time = 5000
        skip_list.apis = ["a.xml"]
        [apim.sync_runtime_artifacts.gateway.tenant_loading]
        enable = true
        tenants = "a.com, b.com"
        [gatesync]
        log_format = "json"
        """
    ).settings
    assert found.publisher.publish_directly_to_gateway is False
    assert found.gateway.deployment_retry_duration_ms == 2_000
    assert found.gateway.data_retrieval_mode is RetrievalMode.ASYNC
    assert found.gateway.save_artifacts_locally is True
    assert found.gateway.event_waiting_time_ms == 5_000
    assert found.gateway.skip_list.apis == ("a.xml",)
    assert found.gateway.tenant_loading.tenants == ("a.com", "b.com")
    assert found.log_format is LogFormat.JSON


def test_two_spellings_of_a_key_must_agree(reading: Reading) -> None:
    section = "[apim.sync_runtime_artifacts.gateway]\ndeployment_retry_duration = 1\n"
    same = reading.load(f"{section}deployment_retry_duartion = 1")
    assert same.settings.gateway.deployment_retry_duration_ms == 1
    problem = reading.problem(f"{section}deployment_retry_duartion = 2")
    assert problem.line == 3
    assert "another spelling of deployment_retry_duration" in problem.message


def test_environments_are_read_whole(reading: Reading) -> None:
    first, second = reading.load(
        """
        [[apim.gateway.environment]]
        name = "Default"
        [[apim.gateway.environment]]
        name = "EU"
        type = "production"
        labels = ["eu 1", "eu 2"]
        service_url = "https://eu:9641/"
        username = "u"
        password = "p"
        description = "d"
        http_endpoint = "http://eu:8280"
        https_endpoint = "https://eu:8243"
        ws_endpoint = "ws://eu:9099"
        wss_endpoint = "wss://eu:8099"
        """
    ).settings.environments
    assert (first.name, first.type, first.labels) == ("Default", "hybrid", ("Default",))
    assert first.service_url is None
    assert (second.type, second.labels) == ("production", ("eu 1", "eu 2"))
    assert second.service_url == "https://eu:9641"
    assert second.password is not None
    assert second.password.reveal() == "p"
    assert second.wss_endpoint == "wss://eu:8099"


def test_an_environment_that_nothing_is_pushed_to_is_told_of(reading: Reading) -> None:
    without = "[[apim.gateway.environment]]\nname = 'A'\n"
    (warning,) = reading.load(without).warnings
    assert (warning.key, warning.message) == (
        "apim.gateway.environment[0].service_url",
        "is not there, so nothing is pushed to this environment",
    )
    assert reading.load(without + "service_url = 'https://a'").warnings == ()
    told = "[apim.sync_runtime_artifacts.publisher]\npublish_directly_to_gateway = 'false'\n"
    assert reading.load(told + without).warnings == ()


def test_the_own_database_goes_before_the_packs(reading: Reading) -> None:
    packs = '[database.apim_db]\ntype = "h2"\nurl = "jdbc:h2:x"\n'
    own = """
        [database.sync_runtime_artifacts_db]
        type = "MySQL"
        url = "jdbc:mysql://db:3306/WSO2AS_DB?password=hidden"
        username = "wso2carbon"
        password = "wso2carbon"
        driverClassName = "com.mysql.cj.jdbc.Driver"
        [database.sync_runtime_artifacts_db.pool_options]
        maxActive = 50
        testOnBorrow = true
        connectionProperties = "password=hidden"
    """
    found = reading.load(packs + own).settings.database
    assert (found.key, found.type) == ("database.sync_runtime_artifacts_db", "mysql")
    assert found.url is not None
    assert found.url.reveal().endswith("?password=hidden")
    assert found.driver == "com.mysql.cj.jdbc.Driver"
    assert found.pool_options["maxActive"] == 50
    assert "hidden" not in repr(found)
    assert reading.load(packs).settings.database.key == "database.apim_db"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("server.offset = -1", "from 0 to 50000"),
        ("server.offset = true", "must be a whole number"),
        ("server.offset = 1.5", "must be a whole number"),
        ("gatesync.heartbeat_interval = 0", "milliseconds from 100"),
        ("gatesync.heartbeat_interval = '5s'", "must be a whole number of milliseconds"),
        ("gatesync.data = ''", "must not be empty"),
        ("gatesync.data = '~nobody-of-this-name/x'", "no such home folder"),
        ("gatesync.log_level = 'loud'", 'one of "debug", "info", "warning", "error"'),
        ("gatesync.node_id = 'a b'", "must be 1 to 64 letters"),
        ("gatesync.publisher.listen = '9640'", "HOST:PORT"),
        ("gatesync.publisher.listen = '127.0.0.1:70000'", "0 to 65535"),
        ("gatesync.publisher.listen = '[1:2]:1'", "HOST:PORT"),
        ("gatesync.gateway.token = ''", "must not be empty"),
        ("apim.sync_runtime_artifacts.gateway.gateway_labels = 'A'", "a list of texts"),
        ("apim.sync_runtime_artifacts.gateway.gateway_labels = []", "at least one label"),
        ("apim.sync_runtime_artifacts.gateway.gateway_labels = ['']", "number 1: label is empty"),
        ("apim.sync_runtime_artifacts.gateway.gateway_labels = ['a', 'a']", "twice"),
        ("apim.sync_runtime_artifacts.gateway.data_retrieval_mode = 'later'", '"sync", "async"'),
        ("apim.sync_runtime_artifacts.gateway.save_artifacts_locally = 1", "true or false"),
        ("apim.sync_runtime_artifacts.publisher.artifact_saver = 3", "a text in quotes"),
        ("apim.event_hub.service_url = 'publisher:9640'", "https://HOST:PORT"),
        ("apim.event_hub.service_url = 'https://h:99999'", "port from 0 to 65535"),
        ("apim.event_hub.service_url = 'https://h/?x=1'", "no ?"),
        ("apim.event_hub.event_listening_endpoints = ['http://h']", "nats://HOST:PORT"),
        ("apim.gateway.environment = [{type = 'hybrid'}]", "is needed"),
        ('apim.gateway.environment = [{name = "a\\u0001"}]', "must be a label: label 'a"),
        ("apim.gateway.environment = [{name = 'A'}, {name = 'A'}]", "earlier environment"),
        ("apim.gateway.environment.name = 'A'", "[[apim.gateway.environment]]"),
        (
            "apim.gateway.environment = [{name = 'A', type = 'test'}]",
            '"hybrid", "production", "sandbox"',
        ),
        ("apim.gateway.environment = [{name = 'A', username = 'a:b', password = 'p'}]", "a ':'"),
        ("apim.gateway.environment = [{name = 'A', username = 'a'}]", "no password"),
        ("apim.gateway.environment = [{name = 'A', password = 'caf\u00e9'}]", "no token has"),
        ("gatesync.gateway.type = 'test'", '"hybrid", "production", "sandbox"'),
        ("gatesync.gateway = {admin_token = 'same', push_token = 'same'}", "is the admin_token"),
        ("database.sync_runtime_artifacts_db.url = 'jdbc:sqlite:'", "must name a file"),
        ("database.sync_runtime_artifacts_db.url = 'jdbc:sqlite::memory:'", "must name a file"),
        (
            "database.sync_runtime_artifacts_db = {type = 'sqlite', url = 'jdbc:mysql://h/d'}",
            "let the two agree",
        ),
        (
            "database.sync_runtime_artifacts_db = {type = 'mysql', url = 'jdbc:sqlite:p'}",
            "let the two agree",
        ),
        ("database.sync_runtime_artifacts_db.pool_options = {a = [1]}", "a table of texts"),
        ("gatesync = 3", "must be a table"),
        ("apim.event_hub = 'x'", "must be a table; write [apim.event_hub]"),
        ("gatesync.gateway = {token = 'a', token_file = 'b'}", "keep one of the two"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_line(
    reading: Reading, line: str, expected: str
) -> None:
    problem = reading.problem(f"# first\n{line}\n")
    assert expected in problem.message
    assert problem.line == 2
    assert problem.key
    assert line.startswith(problem.key.partition("[")[0].partition(".")[0])


def test_all_problems_are_told_at_once_in_the_order_of_the_file(
    write: Write, tmp_path: Path
) -> None:
    text = """
[gatesync]
log_level = "loud"
data = "$env{NOWHERE}"

[apim.sync_runtime_artifacts.gateway]
gateway_labels = []
"""
    with pytest.raises(ConfigError) as caught:
        load(write(text), environ={}, hostname="h")
    file = tmp_path / "deployment.toml"
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"{file}:3", f"{file}:4", f"{file}:7"]
    assert "environment variable NOWHERE" in lines[1]
    assert lines[1].startswith(f"{file}:4: gatesync.data: ")


def test_a_syntax_error_has_its_line(reading: Reading) -> None:
    problem = reading.problem("[gatesync]\ndata = \n")
    assert problem.line == 2
    assert "not valid TOML" in problem.message


def test_a_syntax_error_at_the_end_has_the_last_line(reading: Reading) -> None:
    assert reading.problem('[gatesync]\ndata = ["a",').line == 2


def test_a_file_with_a_byte_order_mark_and_crlf_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deployment.toml"
    path.write_bytes(b"\xef\xbb\xbf[gatesync]\r\nlog_level = 'debug'\r\nnode_id = ''\r\n")
    (problem,) = check(path, environ={}).problems
    assert (problem.key, problem.line) == ("gatesync.node_id", 3)


@pytest.mark.parametrize(
    ("content", "expected", "line"),
    [
        (b"a = 1\nb = '\xff'\n", "not UTF-8", 2),
        (b"#" * (1024 * 1024 + 1), "larger than 1 MiB", 0),
        (b"a = " + b"[" * 100_000, "nested too deeply", 0),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(
    tmp_path: Path, content: bytes, expected: str, line: int
) -> None:
    path = tmp_path / "deployment.toml"
    path.write_bytes(content)
    (problem,) = check(path).problems
    assert expected in problem.message
    assert problem.line == line


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


VALUES = st.recursive(
    st.one_of(
        st.integers(),
        st.booleans(),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(["$env{A}", "$ref{gatesync.data}", "$secret{x}", "${", "nats://[", "\0"]),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(known_keys())), VALUES, min_size=1, max_size=4))
def test_no_value_of_any_key_makes_reading_fail_other_than_with_problems(
    values: dict[str, Any],
) -> None:
    from gatesync.config import loading

    document: dict[str, Any] = {}
    for key, value in values.items():
        *tables, name = key.split(".")
        table: Any = document
        for step in tables:
            # Where another key has put a value in place of the table, this key is left out.
            table = table.setdefault(step, {}) if isinstance(table, dict) else None
        if isinstance(table, dict):
            table[name] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "_parse", lambda path: ("", document))
        checked = check(Path("deployment.toml"), environ={"A": "x"}, hostname="h")
    if checked.loaded is not None:
        as_toml(describe(checked.loaded))
    else:
        assert checked.problems


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_a_broker_address_that_nobody_can_connect_to_is_doubtful(write: Write, host: str) -> None:
    text = f"gatesync.traffic_manager.listen = '{host}:9642'\ngatesync.allow_plaintext = true\n"
    (warning,) = load(write(text)).warnings
    assert (warning.key, warning.line) == ("gatesync.traffic_manager.listen", 1)
    assert "write this machine's own address" in warning.message
    named = "apim.event_hub.event_listening_endpoints = ['nats://broker.example:9642']\n"
    assert load(write(text + named)).warnings == ()
    assert load(write(text.replace(host, "192.0.2.7"))).warnings == ()
