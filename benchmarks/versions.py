"""The versions of everything that the benchmarks measure, ours and others', as they are here."""

import os
import re
import shutil
import sqlite3
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from peers import OPAL_VERSION, MissingPeerError, opal, version_of

__all__ = ["versions"]

PACKAGES = ("gatesync", "uvloop", "msgspec", "sqlalchemy", "psycopg", "pymysql", "nats-py")
PROGRAMS = {
    "nats-server": ("nats-server", "--version"),
    "Envoy": ("envoy", "--version"),
    "PostgreSQL": ("postgres", "--version"),
    "MariaDB": ("mariadbd", "--version"),
    "etcd": ("etcd", "--version"),
    "lsyncd": ("lsyncd", "--version"),
    "rsync": ("rsync", "--version"),
    "git": ("git", "--version"),
    "nginx": ("nginx", "-v"),
    "wrk": ("wrk", "-v"),
}
_NUMBER = re.compile(r"\d+\.\d+(?:\.\d+)?")


def versions() -> dict[str, str]:
    """By name; what is not installed is left out."""
    found = {"SQLite": sqlite3.sqlite_version}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    servers = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", *servers]
    for name, (program, option) in PROGRAMS.items():
        path = shutil.which(program, path=os.pathsep.join(places))
        if path is not None and (told := _NUMBER.search(version_of(path, option))):
            found[name] = told[0]
    try:
        opal()
    except MissingPeerError:
        return found
    return found | {"OPAL": OPAL_VERSION}
