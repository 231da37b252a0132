"""Where the files of artifacts stand in a server's `repository`.

    deployment/server/                       the first tenant, or the one that is asked for
      synapse-configs/default/sequences/...  each kind in its folder
      executionplans/...                     throttling policies, files of any type
    tenants/<id>/                            another tenant, laid out like `deployment/server`

A part's path is its place below `synapse-configs/default`, or `executionplans/...`. A tenant in
`tenants` is called what its folder is called.
"""

from typing import Final, NamedTuple

from gatesync.artifacts.model import KINDS, SUPER_TENANT

__all__ = [
    "CONFIGS_FOLDER",
    "POLICIES_FOLDER",
    "SERVER_FOLDER",
    "TENANTS_FOLDER",
    "Place",
    "path_in_repository",
    "place_in_repository",
]

SERVER_FOLDER: Final = "deployment/server"
TENANTS_FOLDER: Final = "tenants"
CONFIGS_FOLDER: Final = "synapse-configs/default"
POLICIES_FOLDER: Final = KINDS["policy"]


class Place(NamedTuple):
    """What stands somewhere in a repository: whose it is, and the part's path."""

    tenant: str
    path: str
    is_policy: bool


def place_in_repository(path: str, home: str = SUPER_TENANT) -> Place | None:
    """What stands at this path below `repository`; None: nothing that is looked at.

    Args:
        path: `/`-separated.
        home: the tenant that `deployment/server` belongs to.
    """
    tenant, rest = home, path.removeprefix(f"{SERVER_FOLDER}/")
    if rest == path:
        folder, _, inner = path.partition("/")
        tenant, _, rest = inner.partition("/")
        if folder != TENANTS_FOLDER:
            return None
    below = rest.removeprefix(f"{CONFIGS_FOLDER}/")
    if below != rest:
        return Place(tenant, below, is_policy=False)
    return Place(tenant, rest, is_policy=True) if rest.startswith(f"{POLICIES_FOLDER}/") else None


def path_in_repository(path: str, tenant: str, home: str = SUPER_TENANT) -> str | None:
    """Where in a repository a tenant's part of this path stands.

    None where it has no place: `place_in_repository` would not find it there.
    """
    server = SERVER_FOLDER if tenant == home else f"{TENANTS_FOLDER}/{tenant}"
    is_policy = path.startswith(f"{POLICIES_FOLDER}/")
    found = f"{server}/{path}" if is_policy else f"{server}/{CONFIGS_FOLDER}/{path}"
    if tenant == SUPER_TENANT != home:
        return None
    return found if place_in_repository(found, home) == (tenant, path, is_policy) else None
