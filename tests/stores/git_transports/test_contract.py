"""The Git store passes the stores' contract over smart HTTP and ssh, with a login and without.

In CI the whole of it over smart HTTP with a login, and over the others what uses a transport in
each of its ways. The whole over each where there is time.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contracts.store import KeepingContract
from tests.contracts.store_attesting import Attesting
from tests.contracts.store_reading import Reading
from tests.contracts.store_saving import Saving
from tests.stores.budget import BUDGET
from tests.stores.git.bench import GitBench, opened
from tests.stores.git_transports.servers import Host, host


class EachWay:
    """Of the contract: begin a branch, push, repeat, read anew, and what was signed."""

    test_begin = Saving.test_a_label_that_was_never_used_is_empty_at_revision_0
    test_push = Saving.test_published_edited_removed_and_published_again
    test_repeat = Saving.test_a_key_used_again_is_answered_again_and_changes_nothing
    test_reopen = Saving.test_everything_is_there_after_reopening
    test_signed = Attesting.test_the_signature_covers_what_can_be_read_later


SHORTENED: type = EachWay if BUDGET < 1 else KeepingContract


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Host]]:
    """Those that tests have asked for, by kind; they run until the module's end."""
    with ExitStack() as stack:

        class Servers(dict[str, Host]):
            def __missing__(self, kind: str) -> Host:
                folder = tmp_path_factory.mktemp("server")
                self[kind] = stack.enter_context(host(kind, folder))
                return self[kind]

        yield Servers()


class _Transport:
    kind: str

    @pytest.fixture
    async def bench(self, servers: dict[str, Host], tmp_path: Path) -> AsyncIterator[GitBench]:
        async with opened(servers[self.kind].new_source(tmp_path / "clone")) as bench:
            yield bench


class TestSmartHttpWithLogin(_Transport, KeepingContract):
    kind = "http with login"


class TestSmartHttp(_Transport, SHORTENED):
    kind = "http"


class TestHttps(_Transport, SHORTENED):
    kind = "https"


class TestSsh(_Transport, SHORTENED):
    kind = "ssh"

    test_large = Reading.test_15_mib_come_back_byte_for_byte
