"""Connections as an attacker, or a careful client, makes them: over raw sockets."""

import http.client
import json
import socket
import ssl
import warnings
from typing import Any
from urllib.parse import urlsplit

SECONDS = 30.0


def asked(
    url: str, path: str, context: ssl.SSLContext, token: str = "", body: Any = None
) -> tuple[int, Any]:
    """One request over HTTPS: the status, and the document of the answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port, timeout=SECONDS, context=context
    )
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    sent = None if body is None else json.dumps(body).encode()
    if sent is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.request("GET" if sent is None else "POST", path, sent, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def broker_greets(host: str, port: int) -> Any:
    """What the broker says first, to anybody."""
    with socket.create_connection((host, port), SECONDS) as connection:
        return _greeting(connection)


def broker_handshake(
    host: str, port: int, context: ssl.SSLContext, *, ping: bool = False
) -> bytes | None:
    """The certificate that the broker shows. With `ping` it has to let us in, too."""
    with socket.create_connection((host, port), SECONDS) as plain:
        _greeting(plain)
        with context.wrap_socket(plain, server_hostname=host) as connection:
            if ping:
                connection.sendall(b"PING\r\n")
                if not connection.recv(1):
                    raise ConnectionAbortedError("it ended the connection")
            return connection.getpeercert(binary_form=True)


def broker_lets_in(host: str, port: int, context: ssl.SSLContext, user: str, password: str) -> bool:
    """Whether the broker knows this user and password."""
    login = json.dumps({"user": user, "pass": password, "verbose": False})
    with socket.create_connection((host, port), SECONDS) as plain:
        _greeting(plain)
        with context.wrap_socket(plain, server_hostname=host) as connection:
            connection.sendall(f"CONNECT {login}\r\nPING\r\n".encode())
            said = b""
            while b"\r\n" not in said:
                piece = connection.recv(4096)
                if not piece:
                    break
                said += piece
    return b"PONG" in said


def old_tls(host: str, port: int, *, broker: bool) -> None:
    """A handshake that knows TLS 1.1 and nothing newer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # ours would refuse it before they could
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection((host, port), SECONDS) as plain:
        if broker:
            _greeting(plain)
        context.wrap_socket(plain).close()


def _greeting(connection: socket.socket) -> Any:
    line = b""
    while not line.endswith(b"\r\n"):
        piece = connection.recv(1)
        if not piece:
            raise ConnectionAbortedError("it ended the connection before it said anything")
        line += piece
    return json.loads(line.removeprefix(b"INFO "))
