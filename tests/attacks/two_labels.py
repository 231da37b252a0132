"""A publisher with two labels, for those who may read or change one of them and try the other."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from gatesync.publisher.tokens import Role as TokenRole
from gatesync.publisher.tokens import TokenFile
from tests.servers.gatesync import Answer, Place, Role, document, place, publishing, sequence_xml

ALPHA, BETA = "Alpha", "Beta"
NOWHERE = "Gamma"  # a label that nobody ever used
NOTHING = "0" * 63 + "1"  # the digest of no content
SECRET = "only-beta-says-this"


class Held(NamedTuple):
    """One artifact in the store."""

    api_id: str
    digest: str


class TwoLabels(NamedTuple):
    """A running publisher, and what it was given: names begin with the label that has them."""

    place: Place
    role: Role
    artifacts: dict[str, Held]

    def ask(self, path: str, token: str, **more: Any) -> Answer:
        """Ask the publisher as the holder of this token."""
        return self.place.ask(path, token=token, **more)

    def change(self, token: str | None = None, **body: Any) -> Answer:
        """Ask for a change; the operator does, unless another token is given."""
        asking = {"token": token} if token is not None else {}
        return self.place.ask("/v1/changes", method="POST", body=body, **asking)

    def token(
        self, role: str, holder: str, labels: Sequence[str] = (), tenants: Sequence[str] = ()
    ) -> str:
        """A new token."""
        tokens = TokenFile(self.place.data / "tokens.json")
        return tokens.create(TokenRole(role), holder, labels, tenants)

    def heads(self) -> dict[str, int]:
        """The revision of every used label."""
        return {head["label"]: head["revision"] for head in self.place.heads()}


def secret_document(name: str, **changed: Any) -> dict[str, Any]:
    """An artifact whose bytes have the secret in them."""
    return document(name, sequence_xml(name, SECRET), **changed)


@contextmanager
def two_labels(folder: Path) -> Iterator[TwoLabels]:
    """Run the publisher while the block runs.

    Alpha has `alpha` and `shared`, Beta has `beta`, a `beta-old` that was replaced, and `shared`.
    """
    with place(folder, labels=[ALPHA]) as made:
        with made.config.open("a") as config:
            config.write("[apim.event_hub]\nenable = false\n")
        running = TwoLabels(made, made.role("publisher").start(), {})
        for label, each in (
            (ALPHA, document("alpha")),
            (ALPHA, document("shared")),
            (BETA, document("shared")),
            (BETA, secret_document("beta")),
        ):
            answer = running.change(**publishing(each, label=label))
            assert answer.status == 200, answer.body
            _remember(running, answer)
        running.artifacts["beta-old"] = running.artifacts["beta"]
        newer = document("beta", sequence_xml("beta", f"{SECRET}, still"))
        _remember(running, running.change(**publishing(newer, label=BETA)))
        yield running


def _remember(running: TwoLabels, answer: Answer) -> None:
    assert answer.status == 200, answer.body
    for change_set in answer.json()["change_sets"]:
        for change in change_set["changes"]:
            entry = change["entry"]
            running.artifacts[entry["name"]] = Held(entry["api_id"], entry["digest"])
