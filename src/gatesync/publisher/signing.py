"""What a publisher signs: its change sets where they are saved, and heads whenever it names them.

It signs no change of anybody else, so that it launders nothing: what somebody wrote into the store
behind its back stays unsigned, whoever asks for it. `renewing` is the one exception, and asked for
by an operator.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec
import structlog

from gatesync.artifacts.changes import Head
from gatesync.artifacts.signatures import Signer, Trust
from gatesync.publisher.key_files import KeyFileError, KeyFolder, SigningKey, signing_key

__all__ = ["CurrentSigner", "HeadIssuer", "SigningKeys", "unsigned"]

LOOK_SECONDS: Final = 1.0  # how often the folder of keys is looked at, where anything is signed
REUSE_SECONDS: Final = 1.0  # an issue is answered again for so long
LABELS_MAX: Final = 10_000  # whose issues are kept: whoever asks may make up labels

CurrentSigner: TypeAlias = Callable[[], Signer | None]
"""What signs now; None where nothing is signed."""

_log = structlog.get_logger("gatesync.publisher")


def unsigned() -> None:
    """A `CurrentSigner` for a publisher without keys."""
    return


class SigningKeys:
    """The keys of this publisher as they are now, seen without a restart.

    Where the folder becomes unusable while the publisher runs, it goes on with the keys that it
    knew, and tells so: a slip of the pen must not make it publish unsigned.

    Args:
        folder: the keys.
        pinned: the id of the one that signs; the one put to use last if not given.
        clock: the monotonic clock.

    Raises:
        KeyFileError: when made, if the folder cannot be used.
    """

    def __init__(
        self,
        folder: KeyFolder,
        pinned: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble = ""
        self._folder = folder
        self._pinned = pinned
        self._clock = clock
        self._looked_at = clock()
        self._seen = folder.signature()
        self._keys: tuple[SigningKey, ...] = folder.read()
        self._current = signing_key(self._keys, pinned)

    def signer(self) -> Signer | None:
        """What signs now."""
        self._look()
        return self._current.signer if self._current is not None else None

    @property
    def name(self) -> str:
        """The id of the key that signs, or `none`."""
        return self._current.key_id if self._current is not None else "none"

    def known(self) -> tuple[SigningKey, ...]:
        """All keys, oldest first."""
        self._look()
        return self._keys

    def own(self) -> Trust | None:
        """Trust in this publisher's keys that are not retired; None where there are none."""
        good = [each.public for each in self.known() if not each.retired_at]
        return Trust(good) if good else None

    def _look(self) -> None:
        if self._clock() - self._looked_at >= LOOK_SECONDS:
            self.look()

    def look(self) -> None:
        """See what has become of the keys now, and not within a second."""
        self._looked_at = self._clock()
        try:
            seen = self._folder.signature()
            if seen == self._seen:
                return
            keys = self._folder.read()
            current = signing_key(keys, self._pinned)
        except KeyFileError as error:
            if self.trouble != str(error):
                _log.error("keys_not_reloaded", reason=str(error), signing_with=self.name)
            self.trouble = str(error)
            return
        before, self.trouble = self.name, ""
        self._seen, self._keys, self._current = seen, keys, current
        if self.name != before:
            _log.info("signs with another key", before=before, now=self.name)


class HeadIssuer:
    """Signs heads as they are named, with the time of it.

    A head that was signed less than a second ago is answered with that signature again.

    Args:
        signer: what signs now.
        wall_clock: seconds since 1970.
    """

    def __init__(self, signer: CurrentSigner, wall_clock: Callable[[], float] = time.time) -> None:
        self._signer = signer
        self._wall_clock = wall_clock
        self._issued: dict[str, Head] = {}

    def issue(self, head: Head) -> Head:
        """The head with a signature; as it is where nothing is signed."""
        signer = self._signer()
        if signer is None:
            return head
        now = int(self._wall_clock() * 1000)
        known = self._issued.get(head.label)
        if known is not None and known.issue is not None:
            age = now - known.issue.issued_at
            is_same = msgspec.structs.replace(known, issue=None) == head
            is_young = 0 <= age < REUSE_SECONDS * 1000
            if is_same and is_young and known.issue.signature.key_id == signer.key_id:
                return known
        if len(self._issued) >= LABELS_MAX:
            self._issued.clear()
        issued = self._issued[head.label] = signer.head(head, now)
        return issued

    def issue_all(self, heads: Iterable[Head]) -> list[Head]:
        """Each of them with a signature."""
        return [self.issue(head) for head in heads]
