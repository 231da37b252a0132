"""Where an Envoy and its gateway meet, and what Envoy is started with to find it."""

import os
import stat
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from gatesync.engines.envoy.bootstrap import bootstrap, bootstrap_json

__all__ = ["Addresses", "envoy_bootstrap"]

SOCKET_MAX: Final = 100  # bytes of a Unix socket's path: the kernel takes 107


class Addresses:
    """Where an Envoy and its gateway meet.

    Args:
        settings: of the gateway.
    """

    def __init__(self, settings: Any) -> None:
        self.folder: Path = settings.data.absolute() / "envoy"
        self.sockets = _socket_folder(self.folder)
        envoy = settings.envoy
        self.xds = str(envoy.xds) if envoy.xds else f"unix:{self.sockets / 'xds.sock'}"
        self.admin = str(envoy.admin) if envoy.admin else f"unix:{self.sockets / 'admin.sock'}"

    def make(self) -> None:
        """Make the folders, for this user alone. Raises `OSError`, with the folder's name."""
        for folder in {self.folder, self.sockets}:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise PermissionError(1, "this folder belongs to another user", str(folder))
            folder.chmod(0o700)


def envoy_bootstrap(settings: Any) -> bytes:
    """What Envoy is to be started with. Makes the folders that it names."""
    addresses = Addresses(settings)
    addresses.make()
    return bootstrap_json(
        bootstrap(
            settings.server.node_id,
            addresses.xds,
            addresses.admin,
            cluster_metrics=settings.envoy.cluster_metrics,
        )
    )


def _socket_folder(folder: Path) -> Path:
    """The folder itself, or one with a shorter name: the kernel has a limit for sockets."""
    if len(os.fsencode(folder)) + len("/admin.sock") <= SOCKET_MAX:
        return folder
    name = sha256(os.fsencode(folder)).hexdigest()[:16]
    runtime = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(runtime) / f"gatesync-envoy-{os.geteuid()}-{name}"
