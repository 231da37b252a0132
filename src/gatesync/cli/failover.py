"""Several publishers as one: where one does not answer, or ends in the middle, the next is asked.

They share a store, and there is no leader, so any of them can answer. Asking twice is harmless:
what changes anything carries its idempotency key to each (promise 3).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from gatesync.web.client import AnsweredError, HttpClient, Response, UnreachableError

__all__ = ["FailoverClient", "NoneAnsweredError"]

BROKEN: Final = 500  # and above: this publisher cannot, which says nothing of the others


class NoneAnsweredError(UnreachableError):
    """No publisher could answer: `reasons` has one for each that was tried, in that order."""

    def __init__(self, reasons: Sequence[str], *, unsure: bool) -> None:
        self.reasons = tuple(reasons)
        super().__init__("; ".join(reasons), unsure=unsure)


class FailoverClient(HttpClient):
    """Asks the publisher that answered last; the others after it, in their order, when it fails.

    Args:
        clients: one for each publisher, the first to be asked first.
        on_failure: told why one did not answer, and the URL that is tried next.
    """

    def __init__(
        self, clients: Sequence[HttpClient], on_failure: Callable[[str, str], None]
    ) -> None:
        self._clients = tuple(clients)
        self._current = 0
        self._on_failure = on_failure
        self.url = clients[0].url

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Iterable[tuple[str, Any]] = (),
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """As `HttpClient.request`.

        Raises:
            NoneAnsweredError: none of them could be reached, or some could not and the others
                answered that they cannot do it now; unsure if that holds for any.
            AnsweredError: one said no; or all answered that they cannot do it now.
        """
        asked = list(params)
        failed: list[UnreachableError | AnsweredError] = []
        for _ in self._clients:
            client = self._clients[self._current]
            self.url = client.url
            try:
                return await client.request(
                    method, path, params=asked, body=body, headers=headers, timeout=timeout
                )
            except UnreachableError as error:
                failed.append(error)
            except AnsweredError as error:
                if error.status < BROKEN:
                    raise
                failed.append(error)
            self._current = (self._current + 1) % len(self._clients)
            if len(failed) < len(self._clients):
                self._on_failure(str(failed[-1]), self._clients[self._current].url)
        raise _verdict(failed)


def _verdict(failed: Sequence[UnreachableError | AnsweredError]) -> Exception:
    """What all these failures say together. A doubt about one is a doubt about the whole."""
    unsure = [
        each
        for each in failed
        if (each.code == "unsure" if isinstance(each, AnsweredError) else each.unsure)
    ]
    if all(isinstance(each, AnsweredError) for each in failed):
        return (unsure or failed)[-1]
    return NoneAnsweredError([str(each) for each in failed], unsure=bool(unsure))
