"""How large a request of whom may be."""

import pytest

from gatesync.publisher.body_limits import body_limit
from gatesync.publisher.tokens import Principal, Role

pytestmark = [pytest.mark.fast, pytest.mark.promise(8)]

KIB, MIB = 1024, 1024 * 1024


@pytest.mark.parametrize(
    ("role", "path", "limit"),
    [
        (Role.NODE, "/v1/reports", 16 * MIB),
        (Role.NODE, "/v1/reports/", 64 * KIB),
        (Role.NODE, "/v1/changes", 64 * KIB),
        (Role.READ, "/v1/verifications", 64 * KIB),
    ],
)
def test_who_may_not_publish_sends_little(role: Role, path: str, limit: int) -> None:
    assert body_limit(Principal("x", role, ("l",)), path) == limit


def test_a_publisher_is_limited_by_the_configuration_only() -> None:
    for labels in ((), ("l",)):
        assert body_limit(Principal("x", Role.PUBLISH, labels), "/v1/changes") > 2**60
