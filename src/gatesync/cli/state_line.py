"""How a gateway is, in one line: what `systemctl status` shows of it."""

from gatesync.gateway.admin import GatewayStatus

__all__ = ["state_line"]


def state_line(status: GatewayStatus) -> str:
    """Such as `in step with 3 labels; 120 artifacts`."""
    if status.store_error:
        how = "not in step"
    elif not status.ready or any(each.proof_age_ms is None for each in status.labels):
        how = "starting"
    else:
        how = f"in step with {_count(len(status.labels), 'label')}"
    parts = [how, _count(status.applied, "artifact")]
    if status.waiting:
        parts.append(f"{status.waiting} to come")
    if status.failed:
        parts.append(f"{len(status.failed)} refused")
    if status.store_error:
        parts.append(status.store_error)
    return "; ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
