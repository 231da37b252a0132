"""Other people's programs that the benchmarks measure beside ours: where they are, which version.

    python benchmarks/peers.py            says which of them are installed
    python benchmarks/peers.py install    installs OPAL, into a virtual environment of its own

OPAL comes from PyPI; that environment is below the user's cache folder and never in the project's.
etcd and lsyncd are the distribution's: `apt-get install etcd-server lsyncd`.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

__all__ = [
    "OPAL_VERSION",
    "MissingPeerError",
    "etcd",
    "lsyncd",
    "opal",
    "opal_folder",
    "version_of",
]

OPAL_VERSION = "0.9.9"
SBIN = ("/usr/sbin", "/sbin")


class MissingPeerError(Exception):
    """A peer is not installed; says how it is."""


def main() -> int:
    """Tell, or install."""
    if sys.argv[1:] == ["install"]:
        install_opal()
    elif sys.argv[1:]:
        print(__doc__)
        return 2
    for name, find in (("OPAL", opal), ("etcd", etcd), ("lsyncd", lsyncd)):
        try:
            print(f"{name}: {find()}")
        except MissingPeerError as error:
            print(f"{name}: {error}")
    return 0


def opal_folder() -> Path:
    """Where OPAL's environment is, or would be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "gatesync-bench" / f"opal-{OPAL_VERSION}"


def install_opal() -> None:
    """Some four minutes; nothing where it is installed."""
    folder = opal_folder()
    if (folder / "bin" / "opal-client").exists():
        return
    venv.create(folder, with_pip=True, clear=True)
    packages = [f"opal-server=={OPAL_VERSION}", f"opal-client=={OPAL_VERSION}"]
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *packages], check=True)


def opal() -> Path:
    """The folder with opal-server and opal-client. Raises `MissingPeerError`."""
    programs = opal_folder() / "bin"
    if not (programs / "opal-client").exists():
        raise MissingPeerError("not installed: python benchmarks/peers.py install")
    return programs


def etcd() -> Path:
    """The program. Raises `MissingPeerError`."""
    return _program("etcd", "etcd-server")


def lsyncd() -> Path:
    """The program. Raises `MissingPeerError`."""
    _program("rsync", "rsync")
    return _program("lsyncd", "lsyncd")


def version_of(*command: str | Path) -> str:
    """The first line that a program says about itself."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = (done.stdout or done.stderr).strip().splitlines()
    return said[0] if said else ""


def _program(name: str, package: str) -> Path:
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(SBIN))
    if found is None:
        raise MissingPeerError(f"not installed: apt-get install {package}")
    return Path(found)


if __name__ == "__main__":
    sys.exit(main())
