"""[gatesync.envoy]: what decides how APIs are served."""

from pathlib import Path

import pytest

from gatesync.config import check, load
from gatesync.engines.engine import EngineError
from gatesync.engines.envoy.configured import options_of
from gatesync.engines.envoy.options import Options, ServerTls

pytestmark = pytest.mark.fast


def options(folder: Path, *lines: str) -> Options:
    path = folder / "deployment.toml"
    path.write_text("\n".join(["[gatesync.envoy]", *lines]))
    return options_of(load(path, environ={}, hostname="host").settings)


def problems(folder: Path, *lines: str) -> list[str]:
    path = folder / "deployment.toml"
    path.write_text("\n".join(["[gatesync.envoy]", *lines]))
    return [str(each) for each in check(path, environ={}, hostname="host").problems]


def test_nobody_is_let_in_unless_it_is_written_down(tmp_path: Path) -> None:
    found = options(tmp_path)
    assert (found.host, found.port, found.type) == ("127.0.0.1", 8280, "hybrid")
    assert (found.issuer, found.tls, found.allow_unauthenticated) == (None, None, False)
    assert Path(found.upstream_ca).is_absolute()
    assert options(tmp_path, "allow_unauthenticated = true").allow_unauthenticated


def test_an_issuer_has_keys_and_a_listener_a_certificate(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text('{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}')
    found = options(
        tmp_path,
        'issuer = "https://issuer.example"',
        'jwks = "keys.json"',
        'audiences = ["gateway"]',
        'certificate = "a.pem"',
        'private_key = "a.key"',
        "request_timeout = 7000",
    )
    assert found.issuer is not None
    assert (found.issuer.issuer, found.issuer.audiences) == ("https://issuer.example", ("gateway",))
    assert '"oct"' in found.issuer.jwks
    assert found.tls == ServerTls(str(tmp_path / "a.pem"), str(tmp_path / "a.key"))
    assert found.request_timeout_ms == 7_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read"), ("{}", "is no JSON Web Key Set"), ("<x/>", "is no JSON Web Key")],
)
def test_keys_that_are_none(tmp_path: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "keys.json").write_text(content)
    with pytest.raises(EngineError, match=reason):
        options(tmp_path, 'issuer = "i"', 'jwks = "keys.json"')


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (['issuer = "i"'], "needs jwks beside it"),
        (['jwks = "k"'], "needs issuer beside it"),
        (['certificate = "c"'], "needs both certificate and private_key"),
        (['issuer = "i"', 'jwks = "k"', "allow_unauthenticated = true"], "says nothing where"),
    ],
)
def test_keys_that_stand_alone(tmp_path: Path, lines: list[str], reason: str) -> None:
    (problem,) = problems(tmp_path, *lines)
    assert reason in problem
