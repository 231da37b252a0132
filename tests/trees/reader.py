"""A process that opens every file of a tree, again and again, and trusts none of them.

    python -m tests.trees.reader FOLDER

It ends when its standard input does, and prints what it saw as JSON. A file says at its end what
the hash of the rest is; an API says which files it needs.
"""

import hashlib
import json
import os
import re
import select
import sys
from pathlib import Path

NEEDS = re.compile(rb'needs="([^"]+)"')


def signed(text: str) -> bytes:
    """A file whose wholeness can be told."""
    return f"{text}\n{hashlib.sha256(text.encode()).hexdigest()}".encode()


def is_whole(content: bytes) -> bool:
    """Whether it is a file that `signed` made."""
    text, _, digest = content.rpartition(b"\n")
    return hashlib.sha256(text).hexdigest().encode() == digest


def read(path: str) -> bytes | None:
    """What is there now."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - quick is what matters here
            return file.read()
    except FileNotFoundError:
        return None


def main() -> None:
    """Look until nobody wants to know."""
    root = sys.argv[1]
    opened, apis, rounds = 0, 0, 0
    torn: list[str] = []
    lacking: list[str] = []
    versions: set[bytes] = set()
    while not select.select([sys.stdin], [], [], 0)[0]:
        rounds += 1
        for folder, _, names in os.walk(root):
            for name in names:
                if name.startswith("."):  # no engine reads it
                    continue
                path = f"{folder}/{name}"
                content = read(path)
                if content is None:
                    continue
                opened += 1
                if not is_whole(content):
                    torn.append(path)
                for needed in NEEDS.findall(content):
                    apis += 1
                    versions.add(content)
                    # A needed file may go once the API is replaced, and not before that.
                    if read(f"{root}/{needed.decode()}") is None and read(path) == content:
                        lacking.append(f"{path} lacks {needed.decode()}")
    found = {"opened": opened, "apis": apis, "rounds": rounds, "versions": len(versions)}
    print(json.dumps(found | {"torn": torn[:9], "lacking": lacking[:9]}))


if __name__ == "__main__":
    assert Path(sys.argv[1]).is_dir()
    main()
