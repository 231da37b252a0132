"""Where a server listens, and which hosts are this machine."""

import ipaddress
import re

import msgspec

__all__ = ["PORT_MAX", "Address", "is_ipv6", "is_loopback", "parse_address"]

PORT_MAX = 65_535
_ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*)):(?P<port>[0-9]{1,5})"
)


class Address(msgspec.Struct, frozen=True):
    """A host (a name, an IPv4 or a bare IPv6 address) and a port; port 0 is any free one."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    @property
    def anywhere(self) -> bool:
        """Whether it is all addresses of this machine: to listen at, never to connect to."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    @property
    def reachable(self) -> "Address":
        """Where a client on the same machine finds a server that listens here."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared
        return Address(host, self.port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether a host is surely this machine. Names are not looked up, but for `localhost`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_address(text: str, offset: int = 0) -> Address:
    """`HOST:PORT` or `[IPV6]:PORT` with `offset` added to the port, unless that is 0.

    Raises `ValueError` when it has another form or the port leaves 0 to 65535.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or (match["six"] and not is_ipv6(match["six"])):
        raise ValueError('must be "HOST:PORT", such as "127.0.0.1:9640" or "[::1]:9640"')
    port = int(match["port"])
    shifted = port + offset if port else 0
    if not 0 <= shifted <= PORT_MAX:
        raise ValueError(f"has port {port}, with server.offset {shifted}; 0 to 65535 are possible")
    return Address(match["six"] or match["host"], shifted)


def is_ipv6(text: str) -> bool:
    """Whether it is an IPv6 address, without brackets."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
