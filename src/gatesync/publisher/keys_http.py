"""A publisher's keys over HTTP: what they signed that still stands, and signing that anew.

Private keys never travel: `gatesync keys create` and the like work on the publisher's own folder.
"""

import asyncio
from typing import Any, Literal

import msgspec
from litestar import Request, get, post
from litestar.datastructures import State
from litestar.params import JSONBody

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.names import check_label
from gatesync.publisher.audit_http import draft_of
from gatesync.publisher.renewing import LabelKeys, label_keys, read_stand, renewal
from gatesync.publisher.request_keys import new_key
from gatesync.publisher.requests import Stamp
from gatesync.publisher.rights import check_confirming
from gatesync.publisher.service import Publisher
from gatesync.publisher.signing import SigningKeys
from gatesync.publisher.tokens import Principal
from gatesync.stores.wire import WIRE_FORMAT
from gatesync.web.app import ForbiddenError

__all__ = ["KeysAnswer", "SignAnswer", "SignRequest", "get_keys", "post_keys_sign"]

_Ask = Request[Principal, Any, State]


class KeysAnswer(msgspec.Struct, frozen=True):
    """Which key signs (empty: none), and who is said to have signed what the labels hold."""

    signs_with: str
    labels: tuple[LabelKeys, ...]
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


class SignRequest(msgspec.Struct, frozen=True):
    """Sign anew what stands in a label; with `unsigned`, also what cannot be proved."""

    label: str
    unsigned: bool = False
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


class SignAnswer(msgspec.Struct, frozen=True):
    """One change set was signed, of up to 500 entries: ask again while there is something `left`.

    `revision` is 0 where there was nothing to sign. See `Renewal` for the others.
    """

    label: str
    key_id: str
    revision: int
    signed: int
    left: int
    good: int
    refused: dict[str, int]
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


@get("/v1/keys")
async def get_keys(request: _Ask) -> KeysAnswer:
    """Say by which keys everything is signed that the labels hold. It reads all of them."""
    if not request.user.may_see_gateways():
        raise ForbiddenError("this token is a gateway's; it may not read what others do")
    publisher, keys = _publisher(request), _keys(request)
    signer = keys.signer() if keys is not None else None
    labels = [
        label_keys(await read_stand(publisher.saver, head.label))
        for head in await publisher.saver.labels()
        if request.user.may_read(head.label)
    ]
    return KeysAnswer(signer.key_id if signer is not None else "", tuple(labels))


@post("/v1/keys/sign", status_code=200)
async def post_keys_sign(request: _Ask, data: JSONBody[SignRequest]) -> SignAnswer:
    """Sign anew, with the key that signs now, a part of what a label holds.

    Gateways see a new revision of the same bytes, and deploy nothing for it.
    """
    draft = draft_of(request)
    draft.signs(data.label, unsigned=data.unsigned)
    check_confirming(request.user, data.label)  # of all its tenants, too
    label = check_label(data.label)
    publisher, keys = _publisher(request), _keys(request)
    signer = keys.signer() if keys is not None else None
    own = keys.own() if keys is not None else None
    if signer is None or own is None:
        raise Problem("this publisher has no key to sign with; make one: gatesync keys create")
    stand = await read_stand(publisher.saver, label)
    chosen = await asyncio.to_thread(renewal, stand, signer.key_id, own, unsigned=data.unsigned)
    revision = signed = 0
    if chosen.items:
        await draft.begin()
        address = request.client.host if request.client else ""
        stamp = Stamp(author=request.user.id, origin=f"{address} (keys sign)")
        outcome = await publisher.renew(label, chosen.items, new_key(), stamp)
        for each in outcome.change_sets:
            revision, signed = each.revision, len(each.changes)
            draft.confirmed(label, each.epoch, each.revision)
    return SignAnswer(
        label=label,
        key_id=signer.key_id,
        revision=revision,
        signed=signed,
        left=chosen.left,
        good=chosen.good,
        refused=chosen.refused,
    )


def _publisher(request: _Ask) -> Publisher:
    publisher: Publisher = request.app.state.publisher
    return publisher


def _keys(request: _Ask) -> SigningKeys | None:
    """As they are now: whoever asks may have changed them just before."""
    keys: SigningKeys | None = request.app.state.signing_keys
    if keys is not None:
        keys.look()
    return keys
