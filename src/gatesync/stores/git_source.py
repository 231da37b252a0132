"""Which Git repository the Git store opens, and how: values, without running git.

`gatesync.config` makes these of deployment.toml; the openers take them:

    gatesync.stores.git_store.open_git_store(source)            -> a `Saver`, for publishers
    gatesync.stores.git_retriever.open_git_retriever(source)    -> a `Retriever`, for gateways

Both are async context managers. What they give has `nudge()`, which looks at the branch at once
instead of at the next poll, and `problems()`, what of the branch is not served and why.
"""

from pathlib import Path
from typing import Final

import msgspec

from gatesync.secret import Secret, SecretUrl

__all__ = ["POLL_SECONDS", "TIMEOUT_SECONDS", "GitSource"]

POLL_SECONDS: Final = 10.0  # two heartbeats (promise 1); a webhook makes the wait short
TIMEOUT_SECONDS: Final = 60.0


class GitSource(msgspec.Struct, frozen=True, kw_only=True):
    """A branch of a repository. Nothing that it prints holds a password.

    Attributes:
        url: `https://...`, `ssh://...`, `user@host:path` or `file:///...`; plain `http://` is
            refused beyond loopback, unless `allow_plaintext`. It may hold a name and a password.
        branch: whose first-parent history is the log; it need not be there yet.
        path: the folder in the repository that holds the labels; empty for its root.
        cache: the folder of the bare clone, this process's own; made where it is missing, and
            dropped and made anew where it is damaged. Nothing in it has to be kept.
        username, password: for https; a token is a password, its username then is `git` where
            none is given.
        ssh_key: the file of a private key without a passphrase; without one it is what ssh finds.
        known_hosts: the file of host keys for ssh; without one it is the user's own. A host that
            is not in it is refused.
        author_name, author_email: who makes the commits of a publisher.
        signing_key: the file of an SSH private key that signs those commits.
        allowed_signers: the file of keys whose commits count, as ssh-keygen(1) describes it
            under ALLOWED SIGNERS; without one every commit counts.
        ca: a PEM file of authorities for https; without one it is whom git trusts.
        poll_seconds: how often the branch is looked at.
        timeout: seconds without any news from a server after which a question is given up.
    """

    url: SecretUrl
    cache: Path
    branch: str = "main"
    path: str = ""
    username: str = ""
    password: Secret | None = None
    ssh_key: Path | None = None
    known_hosts: Path | None = None
    author_name: str = "gatesync"
    author_email: str = "gatesync@localhost"
    signing_key: Path | None = None
    allowed_signers: Path | None = None
    ca: Path | None = None
    allow_plaintext: bool = False
    poll_seconds: float = POLL_SECONDS
    timeout: float = TIMEOUT_SECONDS

    def __str__(self) -> str:
        """As messages name it: `branch main of https://git.example.com/apis.git`."""
        below = f", folder {self.path}" if self.path else ""
        return f"branch {self.branch} of {self.url}{below}"
