"""How a gateway is, in one line: what `systemctl status` shows of it."""

from gatesync.gateway.health import GatewayStatus

__all__ = ["state_line"]


def state_line(status: GatewayStatus) -> str:
    """Such as `in step with 3 labels; 120 artifacts`."""
    untrusted = [label.untrusted for label in status.labels if label.untrusted]
    how = status.status  # starting, stale, degraded, draining
    if how == "ready":
        labels = _count(len(status.labels), "label")
        trouble = status.store_error or untrusted
        how = "not in step" if trouble else f"in step with {labels}"
    parts = [how, _count(status.applied, "artifact")]
    if status.waiting:
        parts.append(f"{status.waiting} to come")
    if status.failed:
        parts.append(f"{len(status.failed)} refused")
    parts += untrusted[:1]
    if status.store_error:
        parts.append(status.store_error)
    return "; ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
