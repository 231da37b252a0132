import pytest

from tests.config.conftest import Reading

pytestmark = pytest.mark.fast

GATEWAY = "apim.sync_runtime_artifacts.gateway"


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        (f"{GATEWAY}.gateway_label", f"{GATEWAY}.gateway_labels"),
        (f"{GATEWAY}.deployment_retry_duratoin", f"{GATEWAY}.deployment_retry_dur"),
        (f"{GATEWAY}.skip_list.api", f"{GATEWAY}.skip_list.apis"),
        ("apim.sync_runtime_artifact.gateway.gateway_labels", f"{GATEWAY}.gateway_labels"),
        ("apim.sync_runtime_artifacts.gatway.enable", f"{GATEWAY}.enable"),
        ("apim.sync_runtime_artifacts.publisher.gateway_labels", f"{GATEWAY}.gateway_labels"),
        ("gateway_labels", f"{GATEWAY}.gateway_labels"),
        ("apim.event_hubs.service_url", "apim.event_hub.service_url"),
        ("apim.event_hub.servce_url", "apim.event_hub.service_url"),
        ("gatesync.x", "[gatesync] has allow_plaintext, data"),
        ("gatesync.x.y", "[gatesync] has allow_plaintext, data"),
        ("server.ofset", "server.offset"),
        ("gatesnyc.data", "gatesync.data"),
        ("gatesync.offset", "server.offset"),
        (
            "gatesync.publisher.xyz",
            "[gatesync.publisher] has audit, forget_nodes_after",
        ),
        ("database.sync_runtime_artifacts_dbs.url", "database.sync_runtime_artifacts_db.url"),
        ("database.apim_db.usrname", "database.apim_db.username"),
    ],
)
def test_a_mistaken_key_is_a_warning_that_names_the_nearest_one(
    reading: Reading, key: str, meant: str
) -> None:
    loaded = reading.load(f"\n{key} = ['a']")
    (warning,) = loaded.warnings
    assert (warning.key, warning.line) == (key, 2)
    assert "is not a key that gatesync knows" in warning.message
    assert meant in warning.message
    assert loaded.ignored == ()


def test_a_mistaken_key_of_an_environment_has_its_index_and_line(reading: Reading) -> None:
    loaded = reading.load(
        "[[apim.gateway.environment]]\nname='A'\n[[apim.gateway.environment]]\nname='B'\nlabel=['x']"
    )
    (warning,) = (each for each in loaded.warnings if "service_url" not in each.key)
    assert (warning.key, warning.line) == ("apim.gateway.environment[1].label", 5)
    assert "apim.gateway.environment.labels" in warning.message


@pytest.mark.parametrize(
    "key",
    [
        "server.hostname",
        "server.node_ip",
        "user_store.type",
        "super_admin.username",
        "keystore.tls.file_name",
        "truststore.type",
        "transport.https.properties.port",
        "apim.analytics.enable",
        "apim.throttling.service_url",
        "apim.key_manager.service_url",
        "apim.oauth_config.enable_outbound_auth_header",
        "apim.cors.allow_origins",
        "database.shared_db.url",
        "database.config_db.url",
        "clustering.enable",
        "broker.transport.amqp.enabled",
    ],
)
def test_the_rest_of_a_pack_is_no_warning(reading: Reading, key: str) -> None:
    loaded = reading.load(f"{key} = 'a'")
    assert loaded.warnings == ()
    assert loaded.note == f"not read by gatesync: [{key.rpartition('.')[0]}]"


def test_what_only_wso2_reads_in_our_tables_is_passed_over(reading: Reading) -> None:
    loaded = reading.load(
        "[apim.event_hub.jms]\nusername='a'\n[[apim.event_hub.publish.url_group]]\nurls=['a']\n"
        "[secrets]\nalias = '[x]'\n"
    )
    assert (loaded.warnings, loaded.note) == ((), "")


def test_a_key_in_quotes_is_not_taken_for_a_path(reading: Reading) -> None:
    loaded = reading.load('"gatesync.log_level" = "debug"')
    assert loaded.settings.log_level == "info"
    (warning,) = loaded.warnings
    assert warning.key == '"gatesync.log_level"'
    assert "did you mean gatesync.log_level?" in warning.message


def test_known_tables_may_be_empty(reading: Reading) -> None:
    loaded = reading.load(f"[{GATEWAY}]\n[gatesync]\n[database]\n[secrets]\n")
    assert (loaded.warnings, loaded.note) == ((), "")


def test_an_empty_table_with_a_mistaken_name_is_seen(reading: Reading) -> None:
    (warning,) = reading.load("[apim.sync_runtime_artifacts.gatewey]").warnings
    assert GATEWAY in warning.message
