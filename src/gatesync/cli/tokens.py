"""token create, list and revoke: on the data folder of this machine's publisher."""

import time
from collections.abc import Sequence

from gatesync.cli.auditing import recorded
from gatesync.cli.output import Output
from gatesync.cli.running import EXIT_WRONG
from gatesync.cli.session import CommandError
from gatesync.config import Settings
from gatesync.publisher.tokens import Role, TokenError, TokenFile

__all__ = ["create", "revoke", "show"]


def create(
    settings: Settings,
    holder: str,
    role: str,
    labels: Sequence[str],
    tenants: Sequence[str],
    output: Output,
) -> int:
    """Create a token; its text is shown here and nowhere else."""
    try:
        chosen = Role(role)
    except ValueError:
        known = ", ".join(each.value for each in Role)
        raise CommandError(
            EXIT_WRONG, f"--role {role!r} is unknown; it is one of {known}"
        ) from None
    path = settings.data / "tokens.json"
    new = not path.exists()
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    detail = f"{chosen.value} token of {holder}"
    if tenants:
        detail += f" for {', '.join(tenants)}"
    with recorded(settings, output, "create token", detail) as recording:
        recording.tell(labels=tuple(labels))
        try:
            text = _file(settings).create(chosen, holder, labels, tenants)
        except (TokenError, ValueError) as error:
            raise CommandError(EXIT_WRONG, str(error)) from None
        recording.tell(detail=f"{detail}, {text.split('_')[1]}")
    if new:
        output.note(
            f"{path} is new: no publisher has run on this folder yet. A publisher elsewhere will "
            "not know this token; create it where that one runs, or with its --config"
        )
    output.document(
        {
            "token": text,
            "id": holder,
            "role": chosen.value,
            "labels": labels,
            "tenants": tenants,
        }
    )
    output.line(text)
    return 0


def show(settings: Settings, output: Output) -> int:
    """List tokens: who holds them and what for."""
    try:
        tokens = _file(settings).list()
    except TokenError as error:
        raise CommandError(EXIT_WRONG, str(error)) from None
    fields = ("token_id", "role", "id", "labels", "tenants", "created_at", "revoked_at")
    output.document([{name: getattr(token, name) for name in fields} for token in tokens])
    rows = [
        (
            token.token_id,
            token.role.value,
            token.id,
            ", ".join(token.labels) or "all",
            ", ".join(token.tenants) or "all" if token.role is Role.PUBLISH else "",
            time.strftime("%Y-%m-%d %H:%M", time.gmtime(token.created_at / 1000)),
            "revoked" if token.revoked_at else "good",
        )
        for token in tokens
    ]
    headings = ("TOKEN", "ROLE", "HOLDER", "LABELS", "TENANTS", "CREATED (UTC)", "STATE")
    output.table(headings, rows)
    return 0


def revoke(settings: Settings, which: str, output: Output) -> int:
    """Revoke a token by its id, or all of a holder."""
    with recorded(settings, output, "revoke token", which) as recording:
        try:
            revoked = _file(settings).revoke(which)
        except TokenError as error:
            raise CommandError(EXIT_WRONG, str(error)) from None
        said = [f"{each.role.value} token of {each.id}, {each.token_id}" for each in revoked]
        recording.tell(detail="; ".join(said) or f"{which}, which had been revoked before")
    output.document({"revoked": [token.token_id for token in revoked]})
    for token in revoked:
        output.line(f"revoked {token.token_id} of {token.id}")
    return 0


def _file(settings: Settings) -> TokenFile:
    return TokenFile(settings.data / "tokens.json")
