"""Files as WSO2's users have them: taken as they are."""

import pytest

from gatesync.config import RetrievalMode
from tests.config.conftest import Reading

pytestmark = pytest.mark.fast

PUBLISHER = """
    [apim.sync_runtime_artifacts.publisher]
    artifact_saver = "DBSaver"
    publish_directly_to_gateway = "true"
"""
GATEWAY = """
    [apim.sync_runtime_artifacts.gateway]
    gateway_labels =["Production and Sandbox","Label1","Label2"]
    artifact_retriever = "DBRetriever"
    deployment_retry_duartion = 15000
    data_retrieval_mode = "sync"
    save_artifacts_locally = false

     [apim.event_hub]
     enable = true
     service_url = "https://traffic-manager:9443"
"""
PACK = """
[server]
hostname = "am.example"
node_ip = "127.0.0.1"
offset = 1
mode = "single" #single or ha
base_path = "${carbon.protocol}://${carbon.host}:${carbon.management.port}"
server_role = "default"

[super_admin]
username = "admin"
password = "open-sesame"
create_admin_account = true

[user_store]
type = "database_unique_id"

[database.apim_db]
type = "h2"
url = "jdbc:h2:./repository/database/WSO2AM_DB;AUTO_SERVER=TRUE;DB_CLOSE_ON_EXIT=FALSE"
username = "wso2carbon"
password = "wso2carbon"

[database.shared_db]
type = "h2"
url = "jdbc:h2:./repository/database/WSO2SHARED_DB;DB_CLOSE_ON_EXIT=FALSE"
username = "wso2carbon"
password = "wso2carbon"

[keystore.tls]
file_name =  "wso2carbon.jks"
type =  "JKS"
password =  "wso2carbon"

[transport.https]
properties.port = 9443

[[apim.gateway.environment]]
name = "Default"
type = "hybrid"
gateway_type = "Regular"
provider = "wso2"
display_in_api_console = true
description = "This is a hybrid gateway that handles both production and sandbox token traffic."
show_as_token_endpoint_url = true
service_url = "https://localhost:${mgt.transport.https.port}/services/"
username= "${admin.username}"
password= "${admin.password}"
ws_endpoint = "ws://localhost:9099"
wss_endpoint = "wss://localhost:8099"
http_endpoint = "http://localhost:${http.nio.port}"
https_endpoint = "https://localhost:${https.nio.port}"
websub_event_receiver_http_endpoint = "http://localhost:9021"

[apim.sync_runtime_artifacts.gateway]
gateway_labels =["Default"]
skip_list.local-entries = ["file.xml"]

[apim.analytics]
enable = false

[apim.key_manager]
service_url = "https://localhost:9443/services/"
username = "$ref{super_admin.username}"

[apim.event_hub]
enable = true
username = "$ref{super_admin.username}"
password = "$ref{super_admin.password}"
service_url = "https://localhost:${mgt.transport.https.port}/services/"
event_listening_endpoints = ["tcp://localhost:5672"]
event_duplicate_url = ["tcp://apim-cp-2:5672"]

[[apim.event_hub.publish.url_group]]
urls = ["tcp://localhost:9611"]
auth_urls = ["ssl://localhost:9711"]

[[event_listener]]
id = "token_revocation"
[event_listener.properties]
notification_endpoint = "https://localhost:${mgt.transport.https.port}/internal/data/v1/notify"
password = "${admin.password}"
'header.X-WSO2-KEY-MANAGER' = "default"

[secrets]
unused = "ZW5jcnlwdGVk"
"""


def test_the_documented_publisher_block_is_taken_without_a_word(reading: Reading) -> None:
    loaded = reading.load(PUBLISHER)
    assert loaded.warnings == ()
    assert loaded.ignored == ()
    assert loaded.settings.publisher.artifact_saver == "DBSaver"
    assert loaded.settings.publisher.publish_directly_to_gateway is True


def test_the_documented_gateway_block_is_taken_without_a_word(reading: Reading) -> None:
    loaded = reading.load(GATEWAY)
    assert loaded.warnings == ()
    assert loaded.ignored == ()
    gateway = loaded.settings.gateway
    assert gateway.gateway_labels == ("Production and Sandbox", "Label1", "Label2")
    assert gateway.artifact_retriever == "DBRetriever"
    assert gateway.deployment_retry_duration_ms == 15_000
    assert gateway.data_retrieval_mode is RetrievalMode.SYNC
    assert gateway.save_artifacts_locally is False
    assert loaded.settings.event_hub.enable is True
    assert loaded.settings.event_hub.service_url == "https://traffic-manager:9443"


def test_a_whole_packs_file_is_taken_and_what_is_not_ours_is_one_note(reading: Reading) -> None:
    loaded = reading.load(PACK)
    h2, amqp = loaded.warnings
    assert h2.key == "database.apim_db.type"
    assert "use one of mysql, mariadb, postgresql, sqlite. A publisher cannot start" in h2.message
    assert amqp.key == "apim.event_hub.event_listening_endpoints"
    assert "NATS" in amqp.message
    assert loaded.note == (
        "not read by gatesync: [server], [super_admin], [user_store], [database.shared_db], "
        "[keystore.tls], [transport.https.properties], [apim.analytics], [apim.key_manager], "
        "[event_listener], [event_listener.properties]"
    )
    (environment,) = loaded.settings.environments
    assert environment.service_url == "https://localhost:9444"
    assert environment.https_endpoint == "https://localhost:8244"
    assert environment.username == "admin"
    assert environment.password is not None
    assert environment.password.reveal() == "open-sesame"
    assert environment.labels == ("Default",)
    assert loaded.settings.event_hub.event_listening_endpoints == ()
    assert loaded.settings.event_hub.service_url == "https://localhost:9444"
    assert loaded.settings.gateway.skip_list.local_entries == ("file.xml",)
    assert loaded.settings.database.key == "database.apim_db"
    assert loaded.settings.database.type == "h2"
    assert loaded.settings.database.source is None
