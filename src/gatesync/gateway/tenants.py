"""Which tenants a node loads, by WSO2's `tenant_loading.tenants`."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from gatesync.artifacts.model import SUPER_TENANT
from gatesync.gateway.desired import Loads

__all__ = ["tenant_filter"]


def tenant_filter(patterns: Sequence[str]) -> Loads:
    """Read a list such as `["*", "!trial.example"]`.

    Each is a domain or a pattern with `*` and `?`; `!` before it leaves out what it fits, wherever
    it stands. Nothing but exclusions leaves out of all. The first tenant (`carbon.super`) is the
    server's own: it is always loaded unless an exclusion fits it.
    """
    refused = [each[1:].strip() for each in patterns if each.startswith("!")]
    wanted = [each for each in patterns if not each.startswith("!")] or ["*"]

    def loads(tenant: str) -> bool:
        if any(fnmatchcase(tenant, pattern) for pattern in refused):
            return False
        return tenant == SUPER_TENANT or any(fnmatchcase(tenant, each) for each in wanted)

    return loads
