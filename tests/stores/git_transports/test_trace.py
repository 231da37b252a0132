"""What is read of git's trace of HTTP: when a server wants to be asked again, and no more."""

import pytest

from gatesync.stores.git_trouble import explain, retry_after, without_trace

pytestmark = pytest.mark.fast

FATAL = "fatal: unable to access 'http://h/a.git/': The requested URL returned error: 429"


def traced(*headers: str) -> str:
    """As git 2.39 writes it."""
    at = "01:53:50.118119 http.c:684             "
    lines = [f"{at} <= Recv header, 0000000019 bytes (0x00000013)"]
    lines += [f"{at} <= Recv header: {header}" for header in headers]
    return "\n".join(
        [
            f"{at} == Info:   Trying 127.0.0.1:44529...",
            f"{at} => Send header: Authorization: Basic <redacted>",
            *lines,
            f"{at} <= Recv header:",
            f"{at} == Info: Connection #0 to host 127.0.0.1 left intact",
        ]
    )


def test_the_last_answers_wish_is_kept_and_nothing_else() -> None:
    earlier = traced("HTTP/1.1 401 Unauthorized", "Retry-After: 99")
    told = without_trace("\n".join([earlier, traced("HTTP/2 429", "retry-after: 7"), FATAL]))
    assert told == f"retry-after: 7\n{FATAL}"
    assert retry_after(told) == 7.0
    assert explain(told).startswith("the server answers that we ask too often (429)")


def test_where_no_time_is_told_none_is_known() -> None:
    for header in ("Retry-After: soon", "Server: nginx"):
        told = without_trace("\n".join([traced("HTTP/1.1 429", header), FATAL]))
        assert told == FATAL
        assert retry_after(told) is None


def test_what_is_no_trace_stays_as_it_is() -> None:
    told = "remote: 01:02:03 http.c is a file\nfatal: protocol error"
    assert without_trace(told) == told
