import pytest

from gatesync.artifacts.owning import Owner, Owners, owner_of_broken

pytestmark = pytest.mark.fast

UUID = "3b37c2e0-5b08-4b1a-a67f-8e086873e2ad"
MENU = Owner("m1", "t", "Menu", "1.0", UUID)
LONGER = Owner("m2", "t", "Menu", "1.0--beta")
ODD = Owner("odd", "t", "Menu--v1.0", "2")
DEFAULT = Owner("default", "t", "admin--Menu", "")
OWNERS = Owners([MENU, LONGER, ODD, DEFAULT])


@pytest.mark.parametrize(
    ("role", "name", "owner"),
    [
        ("sequence", "Menu--v1.0--In", MENU),
        ("endpoint", "Menu--v1.0_APIproductionEndpoint", MENU),
        ("endpoint", "Menu--v1.0", MENU),
        ("sequence", "Menu--v1.0--beta--In", LONGER),
        ("sequence", "Menu--v1.0--v2--In", ODD),
        ("sequence", "admin--Menu:v1.0--In", MENU),
        ("sequence", "a--b.com--Menu:v1.0--Out", MENU),
        ("sequence", "Menu:v1.0--Fault", MENU),
        ("sequence", "admin--Menu_v1.0--In", MENU),
        ("sequence", "a--Menu--v1.0:v2--In", ODD),
        ("sequence", "admin--Menu:v1.0--beta--In", LONGER),
        ("sequence", "admin--Menu:v1.0--Request", None),
        ("sequence", "admin--Menu:v1.0", None),
        ("sequence", "admin--Menu:v1.0.1--In", None),
        ("sequence", "admin-Menu:v1.0--In", None),
        ("sequence", "admin--Menu:v--In", None),
        ("endpoint", "admin--Menu:v1.0--In", None),
        ("local-entry", UUID, MENU),
        ("local-entry", f"{UUID}_graphQL", MENU),
        ("local-entry", f"{UUID}_other", None),
        ("local-entry", "", None),
        ("local-entry", "Menu--v1.0--In", None),
        ("sequence", UUID, None),
        ("sequence", "Menu--v1.0.1--In", None),
        ("sequence", "Menu--v1.01", None),
        ("sequence", "menu--v1.0--In", None),
        ("sequence", "XMenu--v1.0--In", None),
        ("sequence", "admin--Menu--v", None),
        ("sequence", "main", None),
        ("proxy-service", "Menu--v1.0--In", None),
    ],
)
def test_an_api_owns_what_is_named_for_it(role: str, name: str, owner: Owner | None) -> None:
    assert OWNERS.of("t", role, name) == owner


def test_another_tenants_api_owns_nothing_here() -> None:
    assert OWNERS.of("other", "sequence", "Menu--v1.0--In") is None
    assert OWNERS.of("other", "local-entry", UUID) is None


@pytest.mark.parametrize(
    ("file", "content", "name", "version", "uuid"),
    [
        ("api/admin--Menu_v1.0.xml", b"", "Menu", "1.0", ""),
        ("api/Menu_v1.0.xml", b"", "Menu", "1.0", ""),
        ("a/api/a--b_v1_v2.xml", b"", "b_v1", "2", ""),
        ("x.xml", f'<property name="apiUUID" value="{UUID}"/>'.encode(), "", "", UUID),
    ],
)
def test_a_broken_api_is_known_by_its_file(
    file: str, content: bytes, name: str, version: str, uuid: str
) -> None:
    assert owner_of_broken(file, "t", content) == Owner(file, "t", name, version, uuid)


def test_a_broken_file_that_says_nothing_is_nobody() -> None:
    assert owner_of_broken("api/Menu.xml", "t", b"<api") is None
