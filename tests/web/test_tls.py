"""HTTP with certificates: good ones, bad ones, renewed ones, and URLs that say the other thing."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from gatesync.web.client import TlsFailedError, UnreachableError, open_client
from gatesync.web.server import serve
from gatesync.web.tls import ClientTls, ServerContext, ServerTls, TlsFileError
from tests.web.certificates import LOOPBACK, Authority, Pair

pytestmark = pytest.mark.fast


class Answer(msgspec.Struct):
    good: bool


async def app(_scope: Any, receive: Any, send: Any) -> None:
    await receive()
    headers = [(b"content-length", b"13")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"good":true}'})


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def served(pair: Pair, client_ca: Path | None = None) -> ServerTls:
    return ServerTls(certificate=pair.certificate, key=pair.key, client_ca=client_ca)


@asynccontextmanager
async def server(tls: ServerTls | None, look_seconds: float = 60.0) -> AsyncIterator[int]:
    async with serve(app, "127.0.0.1", 0, tls=tls, look_seconds=look_seconds) as port:
        yield port


async def ask(url: str, tls: ClientTls | None = None) -> bool:
    async with open_client(url, tls=tls) as client:
        return (await client.get("/", Answer)).good


@pytest.mark.parametrize("host", LOOPBACK)
async def test_a_certificate_of_a_trusted_authority_for_this_host_is_good(
    authority: Authority, host: str
) -> None:
    async with server(served(authority.issue("server", *LOOPBACK))) as port:
        assert await ask(f"https://{host}:{port}", ClientTls(ca=authority.file))


@pytest.mark.parametrize(
    ("hosts", "minutes", "trusted", "said"),
    [
        (("elsewhere.example",), 60, True, "is not for this host"),
        (("10.0.0.1",), 60, True, "is not for this host"),
        (LOOPBACK, -1, True, "has expired; renew it there"),
        (LOOPBACK, 60, False, "from an authority that is not trusted here; .*--ca FILE"),
    ],
)
async def test_a_bad_certificate_is_refused_and_told_apart(
    authority: Authority, hosts: tuple[str, ...], minutes: int, trusted: bool, said: str
) -> None:
    pair = authority.issue("server", *hosts, minutes=minutes)
    tls = ClientTls(ca=authority.file) if trusted else None
    async with server(served(pair)) as port:
        with pytest.raises(TlsFailedError, match=said) as refused:
            await ask(f"https://127.0.0.1:{port}", tls)
    assert not refused.value.unsure


async def test_plain_http_at_a_tls_port_is_told_to_write_https(authority: Authority) -> None:
    async with server(served(authority.issue("server", *LOOPBACK))) as port:
        with pytest.raises(TlsFailedError, match="it speaks TLS; write https://"):
            await ask(f"http://127.0.0.1:{port}")


async def test_plain_http_at_a_mutual_tls_port_is_told_to_write_https(authority: Authority) -> None:
    tls = served(authority.issue("server", *LOOPBACK), authority.file)
    async with server(tls) as port:
        with pytest.raises(TlsFailedError, match="it speaks TLS; write https://"):
            await ask(f"http://127.0.0.1:{port}")


async def test_tls_at_a_plain_port_is_told_that_there_is_none(authority: Authority) -> None:
    async with server(None) as port:
        with pytest.raises(TlsFailedError, match="does not speak TLS; write http://"):
            await ask(f"https://127.0.0.1:{port}", ClientTls(ca=authority.file))


async def test_where_nothing_listens_tls_is_not_blamed(authority: Authority) -> None:
    async with server(None) as port:
        pass
    with pytest.raises(UnreachableError) as refused:
        await ask(f"https://127.0.0.1:{port}", ClientTls(ca=authority.file))
    assert not isinstance(refused.value, TlsFailedError)


async def test_only_clients_of_the_named_authority_are_let_in(
    authority: Authority, tmp_path: Path
) -> None:
    tls = served(authority.issue("server", *LOOPBACK), authority.file)
    ours = authority.issue("gateway")
    stranger = Authority(tmp_path / "stranger").issue("gateway")
    late = authority.issue("late", minutes=-1)
    async with server(tls) as port:
        url = f"https://127.0.0.1:{port}"

        async def showing(pair: Pair | None) -> bool:
            certificate, key = pair or (None, None)
            return await ask(
                url, ClientTls(ca=authority.file, client_certificate=certificate, client_key=key)
            )

        assert await showing(ours)
        with pytest.raises(TlsFailedError, match=r"only who has a certificate; .*GATESYNC_CERT"):
            await showing(None)
        with pytest.raises(
            TlsFailedError, match=r"does not (trust the authority of|accept) our cert"
        ):
            await showing(stranger)
        with pytest.raises(TlsFailedError, match=r"does not accept our certificate.* expired"):
            await showing(late)


async def test_less_than_tls_1_2_is_not_spoken(authority: Authority) -> None:
    async with server(served(authority.issue("server", *LOOPBACK))) as port:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(authority.file)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = ssl.TLSVersion.TLSv1_1
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError, match=r"(?i)protocol|eof|reset|no ciphers"):
            await asyncio.open_connection("127.0.0.1", port, ssl=context)


def test_files_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    pair, other = authority.issue("server"), authority.issue("other")
    broken = tmp_path / "broken.pem"
    broken.write_text("not a certificate")
    tried = [
        (pair._replace(certificate=tmp_path / "gone"), None, "certificate", "gone: cannot be read"),
        (Pair(pair.certificate, other.key), None, "key", "other.key: is no key of"),
        (pair, broken, "client_ca", "broken.pem: holds no certificate"),
    ]
    for given, client_ca, key, said in tried:
        with pytest.raises(TlsFileError, match=said) as refused:
            ServerContext(served(given, client_ca))
        assert refused.value.key == key
    pair.key.chmod(0o640)
    with pytest.raises(TlsFileError, match=r"server\.key: others can access it \(mode 0640\)"):
        ServerContext(served(pair))


async def test_twenty_rotations_under_load_fail_no_request(
    authority: Authority, tmp_path: Path
) -> None:
    """Each with a new key; half of the requests connect anew."""
    live = Pair(tmp_path / "live.pem", tmp_path / "live.key")
    lay(authority.issue("first", *LOOPBACK), live)
    answers, ended = 0, asyncio.Event()
    trusts = ClientTls(ca=authority.file)
    async with server(served(live), look_seconds=0.01) as port:
        url = f"https://127.0.0.1:{port}"

        async def connecting() -> None:
            nonlocal answers
            while not ended.is_set():
                good = await ask(url, trusts)
                answers += good

        async def staying() -> None:
            nonlocal answers
            async with open_client(url, tls=trusts) as client:
                while not ended.is_set():
                    good = (await client.get("/", Answer)).good
                    answers += good

        async with asyncio.TaskGroup() as tasks:
            for load in (connecting, connecting, staying, staying):
                tasks.create_task(load())
            for number in range(20):
                pair = authority.issue(f"next-{number}", *LOOPBACK)
                lay(pair, live)
                before = answers
                await served_now(port, trusts, pair)
                while answers < before + 8:  # noqa: ASYNC110 - other tasks' work
                    await asyncio.sleep(0)
            ended.set()
    assert answers >= 160


async def test_a_broken_file_is_told_once_and_the_old_one_is_kept(
    authority: Authority, tmp_path: Path
) -> None:
    live = Pair(tmp_path / "live.pem", tmp_path / "live.key")
    first = authority.issue("first", *LOOPBACK)
    lay(first, live)
    context = ServerContext(served(live))
    assert not context.renew()
    with capture_logs() as lines:
        live.certificate.write_text("half a certi")
        assert [context.renew() for _ in range(4)] == [False] * 4
    assert [line["event"] for line in lines] == ["tls.not_renewed"]
    assert str(live.key) in lines[0]["reason"]
    listening = await asyncio.start_server(
        lambda _r, w: w.close(), "127.0.0.1", 0, ssl=context.context
    )
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        await served_now(port, ClientTls(ca=authority.file), first)
        second = authority.issue("second", *LOOPBACK)
        lay(second, live)
        assert context.renew()
        await served_now(port, ClientTls(ca=authority.file), second)


async def test_an_authority_that_is_taken_out_lets_nobody_in_any_more(
    authority: Authority, tmp_path: Path
) -> None:
    former = Authority(tmp_path / "former", "former")
    one = former.issue("gateway")
    shown = ClientTls(ca=authority.file, client_certificate=one.certificate, client_key=one.key)
    accepted = tmp_path / "clients.pem"
    accepted.write_bytes(authority.file.read_bytes() + former.file.read_bytes())
    tls = served(authority.issue("server", *LOOPBACK), accepted)
    async with server(tls, look_seconds=0.01) as port:
        assert await ask(f"https://127.0.0.1:{port}", shown)
        accepted.write_bytes(authority.file.read_bytes())
        async with asyncio.timeout(30):
            while await is_let_in(port, shown):
                pass


async def is_let_in(port: int, tls: ClientTls) -> bool:
    try:
        return await ask(f"https://127.0.0.1:{port}", tls)
    except TlsFailedError as refused:
        assert "our certificate" in str(refused)  # noqa: PT017 - asked in a loop
        return False


async def test_a_client_takes_renewed_files_for_its_next_connections(
    authority: Authority, tmp_path: Path
) -> None:
    following = Authority(tmp_path / "following", "following")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.file.read_bytes())
    pair = following.issue("server", *LOOPBACK)
    async with server(served(pair)) as port:
        async with open_client(f"https://127.0.0.1:{port}", tls=ClientTls(ca=trusted)) as client:
            with pytest.raises(TlsFailedError, match="not trusted here"):
                await client.get("/", Answer)
            trusted.write_bytes(following.file.read_bytes())
            async with asyncio.timeout(30):
                while not await answers_now(client):  # noqa: ASYNC110 - it looks once a second
                    await asyncio.sleep(0.05)


async def answers_now(client: Any) -> bool:
    try:
        return bool((await client.get("/", Answer)).good)
    except TlsFailedError:
        return False


def lay(pair: Pair, live: Pair) -> None:
    """Replace the live files one after the other, as renewing tools do."""
    for path, into in zip(pair, live, strict=True):
        new = into.with_suffix(".new")
        new.touch(0o600)
        new.write_bytes(path.read_bytes())
        new.replace(into)


async def served_now(port: int, tls: ClientTls, pair: Pair) -> None:
    """Wait until a handshake shows this certificate."""
    expected = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
    context = ssl.create_default_context(cafile=tls.ca and os.fspath(tls.ca))
    async with asyncio.timeout(30):
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.transport.abort()
            if shown == expected:
                return
            await asyncio.sleep(0.01)
