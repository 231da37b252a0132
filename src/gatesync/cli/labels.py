"""labels: what there is, and an operator's word on a label's history."""

from gatesync.artifacts.changes import Confirmation
from gatesync.cli.output import Output
from gatesync.cli.running import EXIT_WRONG
from gatesync.cli.session import CommandError, Target, call
from gatesync.publisher.answers import GatewaysAnswer, LabelsAnswer
from gatesync.web.client import HttpClient

__all__ = ["confirm_label", "show_labels"]


def show_labels(target: Target, output: Output) -> int:
    """List the labels, with what waits for an operator in each."""

    async def work(client: HttpClient) -> tuple[LabelsAnswer, GatewaysAnswer]:
        labels = await client.get("/v1/labels", LabelsAnswer)
        return labels, await client.get("/v1/gateways", GatewaysAnswer)

    labels, gateways = call(target, work)
    held: dict[str, int] = {}
    for gateway in gateways.gateways:
        for label in gateway.labels:
            held[label.label] = max(held.get(label.label, 0), label.held)
    output.document({"labels": labels.labels, "removals_held": held})
    rows = [
        (head.label, head.revision, head.digest.count, held.get(head.label, 0))
        for head in labels.labels
    ]
    named = {head.label for head in labels.labels}
    # What gateways hold of a label that an empty new store has never heard of.
    rows += [(label, 0, 0, n) for label, n in sorted(held.items()) if n and label not in named]
    output.table(("LABEL", "REVISION", "ARTIFACTS", "REMOVALS HELD"), rows)
    return 0


def confirm_label(target: Target, label: str, output: Output) -> int:
    """Confirm a label's history, so that gateways carry out the removals that they held."""

    async def work(client: HttpClient) -> Confirmation:
        answer = await client.get("/v1/gateways", GatewaysAnswer)
        known = {head.label for head in answer.heads}
        known |= {each.label for node in answer.gateways for each in node.labels}
        if label not in known:  # of an empty store too: its gateways follow the label
            said = ", ".join(repr(each) for each in sorted(known)) or "none"
            raise CommandError(
                EXIT_WRONG, f"no publish and no gateway has used label {label!r}; known are: {said}"
            )
        return await client.post("/v1/labels/confirm", {"label": label}, Confirmation)

    confirmation = call(target, work)
    output.document(confirmation)
    output.line(
        f"{label}: the history at revision {confirmation.revision} is confirmed; "
        "gateways now carry out the removals that they held"
    )
    return 0
