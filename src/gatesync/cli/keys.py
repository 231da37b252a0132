"""keys create, list, use, retire and sign: what a publisher signs changes with.

All but `sign` work on the folder of keys of this machine's publisher; private keys never leave it.
"""

import time

from gatesync.cli.auditing import recorded
from gatesync.cli.output import Output
from gatesync.cli.running import EXIT_NO, EXIT_WRONG
from gatesync.cli.session import CommandError, Target, call
from gatesync.config import Settings
from gatesync.publisher.answers import LabelsAnswer
from gatesync.publisher.key_files import KeyFileError, KeyFolder, SigningKey, signing_key
from gatesync.publisher.keys_http import KeysAnswer, SignAnswer, SignRequest
from gatesync.publisher.renewing import counted
from gatesync.web.client import HttpClient

__all__ = ["create", "retire", "show", "sign", "use"]

_WHY = {
    "unsigned": "nobody signed",
    "key": "signed by none of this publisher's keys, or by a retired one",
    "altered": "not what was signed",
}


def create(settings: Settings, output: Output) -> int:
    """Make a key, and print its public half for the gateways."""
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with recorded(settings, output, "create key", "") as recording:
        try:
            key = _folder(settings).create()
        except KeyFileError as error:
            raise CommandError(EXIT_WRONG, str(error)) from None
        recording.tell(detail=key.key_id)
    output.document(_described(key, "signs" if key.used_from else "waits"))
    output.line(key.public.text)
    if key.used_from:
        output.note(
            f"key {key.key_id} signs every change from now on. What stands is signed by: "
            "gatesync keys sign --unsigned; then give the line above to the gateways"
        )
    else:
        output.note(
            f"key {key.key_id} signs nothing yet. Give the line above to every gateway, and then "
            f"run: gatesync keys use {key.key_id}"
        )
    return 0


def show(settings: Settings, output: Output) -> int:
    """List the keys; never their private half."""
    keys = _keys(settings)
    current, wrong = None, ""
    try:
        current = signing_key(keys, settings.signing.key)
    except KeyFileError as error:
        wrong = str(error)
    rows = []
    document = []
    for each in keys:
        state = _state(each, current)
        document.append(_described(each, state))
        created = time.strftime("%Y-%m-%d %H:%M", time.gmtime(each.created_at / 1000))
        rows.append((each.key_id, each.public.text, created, state))
    output.document(document)
    output.table(("KEY", "PUBLIC", "CREATED (UTC)", "STATE"), rows)
    if wrong:
        output.problem(wrong)
    return EXIT_WRONG if wrong else 0


def use(settings: Settings, key_id: str, output: Output) -> int:
    """Have a key sign from now on."""
    if settings.signing.key not in (None, key_id):
        reason = f"[gatesync.signing] key = {settings.signing.key!r} says which key signs"
        raise CommandError(EXIT_WRONG, f"{reason}; change that, or take it out")
    with recorded(settings, output, "use key", key_id):
        try:
            _folder(settings).use(key_id)
        except KeyFileError as error:
            raise CommandError(EXIT_WRONG, str(error)) from None
    output.document({"key_id": key_id})
    output.line(
        f"key {key_id} signs from now on; what stands is signed anew by: gatesync keys sign"
    )
    return 0


def retire(settings: Settings, key_id: str, target: Target, output: Output, *, force: bool) -> int:
    """Have a key sign nothing any more, unless it is still needed."""
    keys = _keys(settings)
    if not force and any(each.key_id == key_id and not each.retired_at for each in keys):
        if _signs(keys, settings, key_id):
            reason = f"key {key_id} is the one that signs; have another sign first"
            raise CommandError(EXIT_NO, reason, "gatesync keys use ID, or with --force none does")
        still = counted(call(target, _all_keys).labels, key_id)
        if still:
            said = ", ".join(f"{count} in label {label!r}" for label, count in still.items())
            reason = f"key {key_id} signed what still stands: {said}"
            raise CommandError(EXIT_NO, reason, "sign that anew first: gatesync keys sign")
    with recorded(settings, output, "retire key", key_id) as recording:
        try:
            retired = _folder(settings).retire(key_id)
        except KeyFileError as error:
            raise CommandError(EXIT_WRONG, str(error)) from None
        if not retired:
            recording.tell(detail=f"{key_id}, which had been retired before")
    output.document({"retired": [key_id] if retired else []})
    output.line(f"key {key_id} {'is retired' if retired else 'had been retired before'}")
    if retired:
        output.note("gateways go on trusting it until it is taken out of their configuration")
    return 0


def sign(target: Target, labels: list[str], output: Output, *, unsigned: bool) -> int:
    """Sign anew what stands in these labels, or in all, with the key that signs now.

    1 where something was left out, as the publisher cannot prove who signed it.
    """

    async def work(client: HttpClient) -> list[tuple[int, SignAnswer]]:
        heads = (await client.get("/v1/labels", LabelsAnswer)).labels
        known = [head.label for head in heads]
        if missing := [label for label in labels if label not in known]:
            said = ", ".join(repr(each) for each in known) or "none"
            raise CommandError(EXIT_WRONG, f"there is no label {missing[0]!r}; known are: {said}")
        return [await _sign_label(client, label, unsigned) for label in labels or known]

    done = call(target, work)
    output.document(
        [
            {
                "label": each.label,
                "key_id": each.key_id,
                "signed": signed,
                "revision": each.revision,
                "refused": each.refused,
            }
            for signed, each in done
        ]
    )
    for signed, each in done:
        _tell(signed, each, output)
    if any(each.refused for _, each in done):
        reason = "if what the publisher's store holds there is right, say so: keys sign --unsigned"
        output.problem(reason)
        return EXIT_NO
    return 0


async def _sign_label(client: HttpClient, label: str, unsigned: bool) -> tuple[int, SignAnswer]:
    """Ask until nothing is left; answers with how much was signed, and the last answer to sign."""
    signed, last = 0, None
    while True:
        answer = await client.post("/v1/keys/sign", SignRequest(label, unsigned), SignAnswer)
        signed += answer.signed
        if answer.revision or last is None:
            last = answer
        if not answer.left:
            return signed, last


def _tell(signed: int, done: SignAnswer, output: Output) -> None:
    which = f"with key {done.key_id}"
    if done.revision:
        output.line(f"{done.label}: {signed} signed anew {which}, revision {done.revision}")
    elif not done.refused:
        output.line(f"{done.label}: all is signed {which}")
    for why, count in done.refused.items():
        output.problem(f"{done.label}: {count} left as they are: {_WHY[why]}")


def _signs(keys: tuple[SigningKey, ...], settings: Settings, key_id: str) -> bool:
    try:
        current = signing_key(keys, settings.signing.key)
    except KeyFileError as error:
        raise CommandError(EXIT_WRONG, str(error)) from None
    return current is not None and current.key_id == key_id


async def _all_keys(client: HttpClient) -> KeysAnswer:
    return await client.get("/v1/keys", KeysAnswer)


def _described(key: SigningKey, state: str) -> dict[str, object]:
    return {
        "key_id": key.key_id,
        "public": key.public.text,
        "created_at": key.created_at,
        "used_from": key.used_from,
        "retired_at": key.retired_at,
        "state": state,
    }


def _state(key: SigningKey, current: SigningKey | None) -> str:
    if key.retired_at:
        return "retired"
    if current is not None and key.key_id == current.key_id:
        return "signs"
    return "used before" if key.used_from else "waits"


def _keys(settings: Settings) -> tuple[SigningKey, ...]:
    try:
        return _folder(settings).read()
    except KeyFileError as error:
        raise CommandError(EXIT_WRONG, str(error)) from None


def _folder(settings: Settings) -> KeyFolder:
    return KeyFolder(settings.signing.directory)
