"""Users' nkeys: Ed25519 keys, as NATS writes them.

    key_of_token("gs_<id>_<secret>")    a node's key at the broker, made of its token
    key_of_seed("SU...")                a key that an administrator made with nsc or nk

The broker knows the public half (`U...`) and gets a signature of a number that it made up. A
node's private half is worked out anew wherever the token is at hand and is written nowhere, so that
a node needs nothing but its token, and who reads `tokens.json` or the broker's configuration
cannot log in as anybody. See docs/decisions/0028-broker-users.md.
"""

import base64
import binascii
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["PUBLIC_PATTERN", "NkeyError", "UserKey", "key_of_seed", "key_of_token"]

PUBLIC_PATTERN: Final = r"\AU[A-Z2-7]{55}\Z"

_SEED, _USER = 18 << 3, 20 << 3  # nkey's prefix bytes: S and U once they are encoded
_NODE_INFO: Final = b"gatesync: a node token's nkey at the broker, 1"  # never to be changed


class NkeyError(ValueError):
    """A text is no key, or signing is not possible here. The message has nothing of the text."""


class UserKey:
    """A user's key; nothing shows its private half."""

    def __init__(self, private: "Ed25519PrivateKey") -> None:
        self._private = private

    @property
    def public(self) -> str:
        """What the broker knows: `U` and 55 more letters and digits."""
        raw = bytes([_USER]) + self._private.public_key().public_bytes_raw()
        return base64.b32encode(raw + _checksum(raw)).decode()  # 35 bytes: no padding

    def sign(self, nonce: str) -> bytes:
        """The signature of the broker's number, in base64."""
        return base64.b64encode(self._private.sign(nonce.encode()))


def key_of_token(token: str) -> UserKey:
    """The key of a node that holds this access token. Raises `NkeyError` for any other text."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    kind, _, rest = token.partition("_")
    token_id, _, secret = rest.partition("_")
    if kind != "gs" or len(token_id) != 12 or len(secret) != 43 or not secret.isascii():
        raise NkeyError(
            "is no token of gatesync's (gs_...), which a login at the broker is made of; copy what "
            "`gatesync token create --role node` printed"
        )
    # The secret is 256 random bits already, so that no salt is needed.
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_NODE_INFO)
    return _key(derived.derive(secret.encode()))


def key_of_seed(text: str) -> UserKey:
    """The key of a user's seed. Raises `NkeyError` for any other text."""
    wrong = NkeyError("holds no user's nkey seed, which begins with SU")
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        raise wrong from None
    if len(raw) != 36 or raw[-2:] != _checksum(raw[:-2]):
        raise wrong
    if raw[0] & 0xF8 != _SEED or (raw[0] & 7) << 5 | raw[1] >> 3 != _USER:
        raise wrong
    return _key(raw[2:-2])


def _key(seed: bytes) -> UserKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return UserKey(Ed25519PrivateKey.from_private_bytes(seed))


def _checksum(raw: bytes) -> bytes:
    return binascii.crc_hqx(raw, 0).to_bytes(2, "little")
