"""Tells a publisher of a push, as GitHub does: `python -m demo.webhook URL SECRET_FILE`.

For a repository's `post-receive` hook, which is given `OLD NEW REF` a line.
"""

import hashlib
import hmac
import json
import sys
import uuid
from pathlib import Path
from urllib.request import Request, urlopen

SECONDS = 10.0


def main(url: str, secret_file: str) -> None:
    """Send one webhook for each ref that was pushed."""
    secret = Path(secret_file).read_text().strip().encode()
    for line in sys.stdin:
        before, after, ref = line.split(maxsplit=2)
        body = json.dumps({"ref": ref.strip(), "before": before, "after": after}).encode()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-Hub-Signature-256": "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest(),
        }
        with urlopen(Request(f"{url}/hooks/git", body, headers), timeout=SECONDS) as answer:
            answer.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
