"""Why a TLS connection did not come about, in words that say what to do.

tls_trouble(error)               # from an exception, where it tells
await asked_again(url, context)  # from one more handshake, where it does not
"""

import asyncio
import ssl
from typing import Final
from urllib.parse import urlsplit

__all__ = ["asked_again", "tls_trouble"]

ASK_SECONDS: Final = 1.0

_HOST: Final = frozenset({62, 64})  # OpenSSL's numbers: the name, the address
_UNKNOWN: Final = frozenset({2, 18, 19, 20, 21, 27})
_NOT_YET, _EXPIRED = 9, 10

NAME_CLIENT: Final = (
    "name ours with GATESYNC_CERT and GATESYNC_KEY, or client_certificate and client_key in "
    "[gatesync.tls]"
)
WRITE_HTTPS: Final = "it speaks TLS; write https://"

OURS_WANTED: Final = (
    "it ends connections after the handshake, as who lets in only who has a certificate; "
    f"{NAME_CLIENT}"
)
OURS_REFUSED: Final = (
    "it ends connections after the handshake, as who does not accept our certificate: it may have "
    f"expired, or be from an authority that is not trusted there; {NAME_CLIENT}"
)

# The first that is found in OpenSSL's name of what went wrong counts.
_REASONS: Final = (
    ("ALERT_CERTIFICATE_REQUIRED", f"it lets in only who has a certificate; {NAME_CLIENT}"),
    (
        "ALERT_CERTIFICATE_EXPIRED",
        f"it does not accept our certificate, which has expired; {NAME_CLIENT}",
    ),
    ("ALERT_UNKNOWN_CA", f"it does not trust the authority of our certificate; {NAME_CLIENT}"),
    ("ALERT_BAD_CERTIFICATE", f"it does not accept our certificate; {NAME_CLIENT}"),
    ("ALERT_CERTIFICATE_UNKNOWN", f"it does not accept our certificate; {NAME_CLIENT}"),
    (
        "ALERT_HANDSHAKE_FAILURE",
        f"it ended the handshake; if it wants a certificate, {NAME_CLIENT}",
    ),
    ("PROTOCOL", "it speaks an older TLS than 1.2, which gatesync does not; update it"),
)
_PLAIN: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
SPEAKS_NO_TLS: Final = (
    "it does not speak TLS; write http:// where it is on this machine, else give it a certificate "
    "in [gatesync.tls]"
)


def tls_trouble(error: BaseException) -> str | None:
    """What is wrong with the server's certificate, ours, or the URL; None for something else."""
    found = _ssl_error(error)
    if isinstance(found, ssl.SSLCertVerificationError):
        return _unverified(found)
    reason = (found.reason or "") if found is not None else ""
    if any(name in reason for name in _PLAIN):
        return SPEAKS_NO_TLS
    return next((said for name, said in _REASONS if name in reason), None)


async def asked_again(
    url: str, context: ssl.SSLContext | None, *, shown: bool = False
) -> str | None:
    """Make a handshake and say what is wrong, where a request only found a closed connection.

    A server that refuses our certificate (`shown`: whether we have one) may hang up without a
    reason, as asyncio's do; one that was sent plain HTTP says nothing at all. Takes two seconds
    at most.
    """
    parts = urlsplit(url)
    encrypted = parts.scheme == "https"
    used = context if encrypted and context is not None else _trusting()
    port = parts.port or (443 if encrypted else 80)
    try:
        async with asyncio.timeout(ASK_SECONDS):
            reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=used)
    except (OSError, TimeoutError, EOFError) as error:
        if encrypted:
            return tls_trouble(error)
        refused = _ssl_error(error)
        return WRITE_HTTPS if refused is not None and "ALERT" in (refused.reason or "") else None
    try:
        if not encrypted:
            return WRITE_HTTPS
        async with asyncio.timeout(ASK_SECONDS):
            await reader.read(1)  # nothing comes: we sent nothing, and it waits for a request
    except TimeoutError:
        return None
    except OSError as error:
        return tls_trouble(error) or (OURS_REFUSED if shown else OURS_WANTED)
    else:
        return OURS_REFUSED if shown else OURS_WANTED
    finally:
        writer.transport.abort()


def _trusting() -> ssl.SSLContext:
    """To find out whether there is TLS at all; nothing is ever sent over it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _unverified(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _HOST:
        return (
            "its certificate is not for this host; write the name that it is for, or give it one "
            "that has this name"
        )
    if error.verify_code == _EXPIRED:
        return "its certificate has expired; renew it there"
    if error.verify_code == _NOT_YET:
        return "its certificate is not valid yet; compare the clocks of both machines"
    if error.verify_code in _UNKNOWN:
        return (
            "its certificate is from an authority that is not trusted here; name that authority's "
            "certificate with --ca FILE or GATESYNC_CA, or ca in [gatesync.tls]"
        )
    return f"its certificate is not accepted: {error.verify_message}"


def _ssl_error(error: BaseException) -> ssl.SSLError | None:
    """The first one in the chain of causes."""
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, ssl.SSLError):
            return each
        each = each.__cause__ or each.__context__
    return None
