import pytest

from tests.config.conftest import Reading

pytestmark = pytest.mark.fast

IN_THE_CLEAR = [
    ("gatesync.publisher.listen", '"0.0.0.0:9640"'),
    ("gatesync.gateway.listen", '"[::]:9641"'),
    ("gatesync.traffic_manager.listen", '"gw.example:9642"'),
    ("gatesync.gateway.contents_url", '"http://cache:9650"'),
    ("apim.event_hub.service_url", '"http://publisher:9640"'),
    ("apim.event_hub.event_listening_endpoints", '["tls://a:1", "nats://b:2"]'),
]


@pytest.mark.parametrize(("key", "value"), IN_THE_CLEAR)
def test_plaintext_beyond_this_machine_is_refused_unless_it_is_written_down(
    reading: Reading, key: str, value: str
) -> None:
    text = f"gatesync.node_id = 'a'\n{key} = {value}\n"
    problems = {problem.key: problem for problem in reading.check(text).problems}
    assert problems[key].line == 2
    assert "allow_plaintext = true" in problems[key].message
    assert reading.check(f"{text}gatesync.allow_plaintext = true").problems == ()


def test_plaintext_to_an_environment_is_refused(reading: Reading) -> None:
    text = "[[apim.gateway.environment]]\nname = 'A'\nservice_url = 'http://gw:9641'\n"
    problem = reading.problem(text)
    assert (problem.key, problem.line) == ("apim.gateway.environment[0].service_url", 3)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gatesync.publisher.listen", '"localhost:9640"'),
        ("gatesync.gateway.listen", '"[::1]:9641"'),
        ("gatesync.traffic_manager.listen", '"127.8.9.1:9642"'),
        ("apim.event_hub.service_url", '"http://[::1]:9640"'),
        ("apim.event_hub.service_url", '"https://publisher:9640"'),
        ("apim.event_hub.event_listening_endpoints", '["tls://a:1", "nats://localhost:2"]'),
    ],
)
def test_loopback_and_tls_need_no_permission(reading: Reading, key: str, value: str) -> None:
    assert reading.check(f"{key} = {value}").problems == ()
