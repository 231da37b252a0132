"""What becomes of an OpenAPI document, and of what is wrong with one."""

import json
from typing import Any

import msgspec
import pytest
import yaml

from gatesync.artifacts import canonical
from gatesync.artifacts.description import describe
from gatesync.artifacts.errors import ProblemsError
from gatesync.artifacts.model import Artifact
from gatesync.artifacts.openapi import OpenApiArtifact, artifact_from_openapi
from gatesync.artifacts.openapi_options import OpenApiOptions
from gatesync.artifacts.routes import Resource
from gatesync.artifacts.tree import artifacts_of, files_of_tree
from gatesync.artifacts.wso2 import artifact_from_wso2, wso2_json
from gatesync.artifacts.xml import parse

pytestmark = pytest.mark.fast

LIBRARY = """\
# Lends books & more.
openapi: 3.0.3
info:
  title: Town Library
  version: 2.1.0
servers:
  - url: https://{branch}.library.example/lending/
    variables:
      branch: {default: main, enum: [main, harbour]}
security:
  - tokens: [lend]
paths:
  /books/{isbn}:
    parameters:
      - $ref: '#/components/parameters/isbn'
    delete:
      responses:
        204: {description: No longer on the shelf}
    get:
      responses:
        200: {description: A book}
  /books:
    get:
      responses:
        200: {description: 'All books, "new" ones <first>'}
    post:
      responses:
        '201': {description: Bought}
  /books/newest:
    get:
      responses:
        default: {description: What came last}
components:
  parameters:
    isbn: {name: isbn, in: path, required: true, schema: {type: string}}
  securitySchemes:
    tokens:
      type: oauth2
      flows:
        clientCredentials: {tokenUrl: 'https://id.example/token', scopes: {lend: to lend}}
"""
SHOP: dict[str, Any] = {
    "swagger": "2.0",
    "info": {"title": "Corner shop!", "version": "v1"},
    "host": "shop.example:8443",
    "basePath": "/shop",
    "schemes": ["http", "https"],
    "paths": {
        "/items": {"get": {"responses": {"200": {"description": "What there is"}}}},
        "/items/{id}/price": {
            "put": {
                "parameters": [{"name": "id", "in": "path", "required": True, "type": "string"}],
                "responses": {"204": {"description": "Changed"}},
            }
        },
    },
}
WEATHER: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Weather", "version": "3"},
    "paths": {
        "/*": {"get": {"responses": {"200": {"description": "Anything"}}}},
        "/today": {"$ref": "#/components/pathItems/day"},
    },
    "components": {
        "pathItems": {"day": {"get": {"responses": {"200": {"description": "Sunny"}}}}},
        "schemas": {"Null": {"type": ["null", "string"]}},
    },
}
BACKEND = OpenApiOptions(endpoint="https://backend")


def made(document: str | dict[str, Any], **options: Any) -> OpenApiArtifact:
    content = document if isinstance(document, str) else json.dumps(document)
    if isinstance(document, dict):
        options = {"endpoint": "https://backend"} | options
    return artifact_from_openapi(content.encode(), OpenApiOptions(**options))


def refused(document: str | bytes | dict[str, Any], **options: Any) -> list[str]:
    content = json.dumps(document) if isinstance(document, dict) else document
    content = content if isinstance(content, bytes) else content.encode()
    options = {"endpoint": "https://backend"} | options
    with pytest.raises(ProblemsError) as error:
        artifact_from_openapi(content, OpenApiOptions(**options))
    return [str(problem).removeprefix(":") for problem in error.value.problems]


def paths_of(artifact: Artifact) -> list[str]:
    return [part.path for part in artifact.parts]


def routes(artifact: Artifact) -> list[tuple[str, str, str]]:
    def route(each: Resource) -> tuple[str, str, str]:
        return " ".join(each.methods), each.style, each.pattern

    return [route(each) for each in describe(artifact).resources]


def definition(artifact: Artifact) -> str:
    (entry,) = (part for part in artifact.parts if part.role == "local-entry")
    return parse(entry.content, entry.path).text or ""


# What comes out -------------------------------------------------------------------------------


def test_a_document_becomes_what_a_portal_would_publish() -> None:
    artifact, notes = made(LIBRARY)

    assert str(artifact.identity) == "api TownLibrary 2.1.0"
    assert artifact.api_id == artifact.identity.default_api_id()
    assert paths_of(artifact) == [
        "api/admin--TownLibrary_v2.1.0.xml",
        "endpoints/TownLibrary--v2.1.0_APIproductionEndpoint.xml",
        f"local-entries/{artifact.api_id}.xml",
    ]
    description = describe(artifact)
    assert (description.context, description.version) == ("/townlibrary/2.1.0", "2.1.0")
    assert description.references == description.warnings == ()
    (endpoint,) = description.endpoints
    assert (endpoint.type, endpoint.urls) == ("http", ("https://main.library.example/lending",))
    assert notes == ("requests go to https://main.library.example/lending, as the document says",)


def test_concrete_paths_come_before_templates_and_each_operation_is_a_resource() -> None:
    assert routes(made(LIBRARY).artifact) == [
        ("GET", "url-mapping", "/books"),
        ("POST", "url-mapping", "/books"),
        ("GET", "url-mapping", "/books/newest"),
        ("GET", "uri-template", "/books/{isbn}"),
        ("DELETE", "uri-template", "/books/{isbn}"),
    ]
    assert routes(made(WEATHER).artifact) == [
        ("GET", "url-mapping", "/today"),
        ("GET", "url-mapping", "/*"),
    ]


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
def test_the_definition_is_kept_character_for_character(before: bytes) -> None:
    content = before + LIBRARY.replace("\n", "\r\n", 3).encode() + "# ]]> é \U0001f4da\t".encode()

    artifact = artifact_from_openapi(content, OpenApiOptions()).artifact

    assert definition(artifact).encode() == content


def test_a_swagger_document_says_context_and_endpoint() -> None:
    artifact, notes = artifact_from_openapi(json.dumps(SHOP).encode(), OpenApiOptions())

    assert str(artifact.identity) == "api Cornershop v1"
    assert describe(artifact).context == "/shop/v1"
    assert describe(artifact).endpoints[0].urls == ("https://shop.example:8443/shop",)
    assert notes[0] == (
        "requests go to https://shop.example:8443/shop, as the document says, "
        "the first of its 2 servers"
    )


def test_options_say_it_otherwise() -> None:
    options = OpenApiOptions(
        endpoint="http://[::1]:8080/a%20b/",
        sandbox_endpoint="https://sandbox.example",
        context="/lend/{version}/books",
        name="Bücherei",
        version="7",
    )
    artifact, _ = artifact_from_openapi(LIBRARY.encode(), options, tenant="town.example")

    assert str(artifact.identity) == "api Bücherei 7 (town.example)"
    assert describe(artifact).context == "/lend/7/books"
    assert {each.name: each.urls for each in describe(artifact).endpoints} == {
        "Bücherei--v7_APIproductionEndpoint": ("http://[::1]:8080/a%20b",),
        "Bücherei--v7_APIsandboxEndpoint": ("https://sandbox.example",),
    }
    assert artifact.parts[0].name == "admin-AT-town.example--Bücherei"


def test_without_a_sandbox_its_keys_are_refused() -> None:
    api = made(LIBRARY).artifact.parts[0].content.decode()
    assert api.count('<sequence key="_sandbox_key_error_"/>') == 5

    api = made(LIBRARY, sandbox_endpoint="https://s").artifact.parts[0].content.decode()
    assert api.count('<endpoint key="TownLibrary--v2.1.0_APIsandboxEndpoint"/>') == 5
    assert "_sandbox_key_error_" not in api


def handlers(artifact: Artifact) -> list[str]:
    return [each.rpartition(".")[2] for each in describe(artifact).handlers]


def test_who_calls_is_asked_unless_that_is_allowed() -> None:
    assert handlers(made(LIBRARY).artifact) == [
        "APIMgtLatencyStatsHandler",
        "CORSRequestHandler",
        "APIAuthenticationHandler",
        "ThrottleHandler",
        "APIManagerExtensionHandler",
    ]
    artifact, notes = made(LIBRARY, allow_unauthenticated=True)
    assert handlers(artifact) == [
        "APIMgtLatencyStatsHandler",
        "CORSRequestHandler",
        "APIManagerExtensionHandler",
    ]
    assert b"AM_KEY_TYPE" not in artifact.parts[0].content
    asked = "the API is open to everyone, though the document asks for tokens (GET /books and 4"
    assert notes[1].startswith(asked)


def test_an_open_api_with_a_sandbox_goes_to_production_where_nobody_says_otherwise() -> None:
    options = {"sandbox_endpoint": "https://s", "allow_unauthenticated": True}
    api = parse(made(SHOP, **options).artifact.parts[0].content, "api.xml")
    for chosen in api.iterfind(".//{*}filter"):
        assert chosen.get("regex") == "SANDBOX"
        (then,) = chosen.iterfind("{*}then//{*}endpoint")
        assert then.get("key") == "Cornershop--vv1_APIsandboxEndpoint"


def test_a_security_that_is_not_asked_for_is_told() -> None:
    document = yaml.safe_load(LIBRARY)
    document["paths"]["/books"]["get"]["security"] = []
    document["paths"]["/books"]["post"]["security"] = [{"badge": []}]
    document["paths"]["/books/newest"]["get"]["security"] = [{"bearer": []}, {"badge": []}]
    schemes = document["components"]["securitySchemes"]
    schemes["badge"] = {"type": "apiKey", "in": "header", "name": "badge"}
    schemes["bearer"] = {"$ref": "#/components/securitySchemes/jwt"}
    schemes["jwt"] = {"type": "http", "scheme": "Bearer"}

    assert made(document).notes == (
        "each operation asks for an OAuth 2.0 token, as in WSO2, also where the document asks for "
        "something else or for nothing (GET /books and 1 more)",
    )


def test_a_token_that_the_document_makes_optional_counts_as_none() -> None:
    document = yaml.safe_load(LIBRARY)
    document["security"] = [{}, {"tokens": []}]
    assert "(GET /books and 4 more)" in made(document).notes[0]


def test_references_to_other_documents_are_told_and_never_fetched() -> None:
    document = yaml.safe_load(LIBRARY)
    answer = document["paths"]["/books"]["get"]["responses"]
    answer["404"] = {"$ref": "http://127.0.0.1:9/errors.yaml#/none"}
    answer["500"] = {"$ref": "/etc/passwd"}
    document["paths"]["/books"]["post"]["x-sample"] = {"$ref": "#/nothing"}

    artifact, notes = made(document)

    assert json.loads(definition(artifact)) == json.loads(json.dumps(document))
    assert notes == (
        "the definition refers to other documents, which are not published with it (2 times, such "
        "as 'http://127.0.0.1:9/errors.yaml#/none' at #/paths/~1books/get/responses/404)",
    )


def test_the_artifact_is_the_same_each_time_and_whichever_way_it_goes_round() -> None:
    artifact = made(LIBRARY, sandbox_endpoint="https://s").artifact
    assert canonical.encode(made(LIBRARY, sandbox_endpoint="https://s").artifact) == (
        canonical.encode(artifact)
    )
    assert artifacts_of(files_of_tree([artifact])).artifacts == (artifact,)
    assert artifact_from_wso2(wso2_json(artifact), "a.json").artifact == artifact


def test_the_same_in_json_and_yaml_differs_in_nothing_but_the_definition() -> None:
    as_json = made(yaml.safe_load(LIBRARY), endpoint="").artifact
    as_yaml = made(LIBRARY).artifact
    assert as_json.parts[:2] == as_yaml.parts[:2]
    assert as_json.parts[2] != as_yaml.parts[2]


# Paths ----------------------------------------------------------------------------------------


def with_paths(*paths: str, method: str = "get") -> dict[str, Any]:
    operation = {"responses": {"200": {"description": ""}}}
    return msgspec.json.decode(json.dumps(SHOP)) | {
        "swagger": "2.0",
        "paths": {path: {method: operation} for path in paths},
    }


def test_literals_are_written_as_requests_have_them() -> None:
    assert routes(made(with_paths("/grün zeug/{id}", "/a%2Fb", "/")).artifact) == [
        ("GET", "url-mapping", "/a%2Fb"),
        ("GET", "url-mapping", "/"),
        ("GET", "uri-template", "/gr%C3%BCn%20zeug/{id}"),
    ]


def test_of_two_templates_the_one_with_more_letters_comes_first() -> None:
    patterns = ["/{a}/{b}", "/{a}/x-{b}.json", "/{a}/x-{b}", "/x/{b}", "/{a}/x", "/*"]
    found = [pattern for _, _, pattern in routes(made(with_paths(*patterns)).artifact)]
    assert found == ["/x/{b}", "/{a}/x", "/{a}/x-{b}.json", "/{a}/x-{b}", "/{a}/{b}", "/*"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/a/{}", "'{}' is no variable for Synapse"),
        ("/a/{pet id}", "'{pet id}' is no variable for Synapse"),
        ("/a/{x", "a brace without its other half"),
        ("/a/x}", "a brace without its other half"),
        ("/a/{{x}}", "a brace without its other half"),
        ("/{x}/{x}", "names a variable twice"),
        ("/a?b={c}", "has a '?' or '#'"),
        ("/a#b", "has a '?' or '#'"),
        ("/a*/b", "has a '*', which is a wildcard for Synapse"),
        ("/a\u200b", "has a character that cannot be seen"),
        ("/a/../b", "has a step '.' or '..'"),
        ("/" + "a" * 2_000, "has 2001 characters; at most 2000"),
    ],
)
def test_a_path_that_synapse_cannot_serve_is_refused(path: str, reason: str) -> None:
    (told,) = refused(with_paths("/fine", path))
    assert told.startswith(("1: #/paths/~1", "#/paths/~1"))
    assert reason in told


def test_paths_that_are_the_same_are_refused() -> None:
    told = refused(with_paths("/a/{x}", "/a/{y}", "/b c", "/b%20c"))
    assert [each.partition(": ")[2] for each in told] == [
        "#/paths/~1a~1{y}: is the same as '/a/{x}'; keep one of them",
        "#/paths/~1b%20c: is the same as '/b c'; keep one of them",
    ]


def test_a_method_that_synapse_does_not_have_is_refused() -> None:
    document = LIBRARY.replace("    delete:", "    trace:")
    assert refused(document) == [
        "16: #/paths/~1books~1{isbn}/trace: Synapse has no method TRACE; take the operation out"
    ]


@pytest.mark.parametrize(
    "target", ["other.yaml#/day", "#/info", "#/paths/~1today", "#/components/pathItems/loop"]
)
def test_a_path_item_that_leads_elsewhere_is_refused(target: str) -> None:
    document = json.loads(json.dumps(WEATHER))
    document["paths"]["/today"]["$ref"] = target
    document["components"]["pathItems"]["loop"] = {"$ref": "#/components/pathItems/loop"}
    assert "is no path item of this document, and no other is read" in refused(document)[0]


def test_an_api_without_operations_is_refused() -> None:
    reason = "#/paths: there is no operation; an API must have one to serve"
    assert refused(SHOP | {"paths": {"x-none": {"get": {}}}}) == [f"1: {reason}"]
    webhooks = {"openapi": "3.1.0", "info": {"title": "a", "version": "1"}, "webhooks": {}}
    assert refused(webhooks) == [reason]


# What is wrong with a document ----------------------------------------------------------------


def test_every_fault_is_told_with_its_line_and_pointer() -> None:
    wrong = LIBRARY.replace("  version: 2.1.0", "  version: 2.1")
    wrong = wrong.replace("{description: A book}", "{headers: 5}")
    wrong = wrong.replace("    post:", "    pots:")
    wrong = wrong.replace("in: path, ", "")
    assert refused(wrong) == [
        '5: #/info/version: it is not of type "string"',
        "21: #/paths/~1books~1{isbn}/get/responses/200: 'description' is missing",
        '21: #/paths/~1books~1{isbn}/get/responses/200/headers: it is not of type "object"',
        "22: #/paths/~1books: 'pots': OpenAPI has no such member here; take it out, or call it "
        "x-...",
        "35: #/components/parameters/isbn: 'in' is missing",
        "35: #/components/parameters/isbn: it has members of several forms, of which it must have "
        "one",
    ]


def test_a_fault_repeats_nothing_that_may_be_a_secret() -> None:
    document = SHOP | {"host": "https://user:s3cret@shop.example", "basePath": "s3cret"}
    assert "s3cret" not in "".join(refused(document))
    assert "s3cret" not in "".join(refused(SHOP, endpoint="https://user:s3cret@shop.example"))


def test_of_many_faults_the_first_are_told() -> None:
    document = json.loads(json.dumps(SHOP))
    document["paths"] = {f"/{number}": {"get": {}} for number in range(1_000)}
    told = refused(document)
    assert len(told) == 21
    assert told[-1] == "and more of the kind"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "the document is empty"),
        ("# nothing\n", "the document is empty"),
        ("- a\n", "no OpenAPI document: it must be a mapping"),
        ("a: 1\n", "no OpenAPI document: it has neither 'openapi' nor 'swagger'"),
        ("openapi: 3.1\n", "'openapi' must be text: put the version into quotes"),
        ("openapi: 3.2.0\n", "openapi '3.2.0' is not read; 2.0, 3.0, 3.1 are"),
        ("swagger: '1.2'\n", "swagger '1.2' is not read"),
        ("openapi: '2.0'\n", "openapi '2.0' is not read"),
        ("a: b\n c: d\n", "2: not YAML: mapping values are not allowed"),
        ("a:\n  b: 1\n  b: 2\n", "3: 'b' stands twice in one mapping"),
        ('{"a": 1,\n "a": 2}', "2: 'a' stands twice in one mapping"),
        ('{"openapi": "3.0.0",\n "info": ]', "2: not YAML"),
        ("a: 1\n---\nb: 1\n", "2: a second document begins here"),
        ("a: !!python/object/apply:os.system [x]\n", "1: the tag 'tag:yaml.org,2002:python/"),
        ("a: &a {b: 1}\nc: {<<: *a}\n", "2: merge keys '<<' are not YAML 1.2"),
        ("? [a]\n: b\n", "1: a key must be text"),
        ("a: &a [*a]\n", "1: *a stands for nothing that ends before it"),
        ("a: \x07\n", "1: not YAML: "),
        (b"a: \xff\n", "1: not UTF-8 at byte 3; save it as UTF-8"),
        ("[" * 200, "1: values are nested more than 100 deep"),
        ('{"a":' * 200 + "1" + "}" * 200, "values are nested more than 100 deep"),
        ('{"a":' * 9_000 + "1" + "}" * 9_000, "values are nested more than 100 deep"),
        ('{"a": [' + "1," * 1_000_001 + "1]}", "more than 1,000,000 values"),
    ],
    ids=range(23),
)
def test_what_cannot_be_read_is_refused(content: str | bytes, reason: str) -> None:
    (told,) = refused(content)
    assert told.startswith(reason)


def test_yaml_of_too_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatesync.artifacts.openapi_document.MAX_VALUES", 20)
    (told,) = refused("a: [x, x, x, x, x, x, x, x, x, x]\nb: {c: [y, y, y, y, y, y, y, y]}\n")
    assert told.startswith("2: more than ")


def test_what_is_named_json_must_be_json() -> None:
    for content, reason in ((b'{"a":\n 1,}', "2: not JSON: "), (b"a: 1", "1: not JSON: ")):
        with pytest.raises(ProblemsError) as error:
            artifact_from_openapi(content, BACKEND, json_only=True)
        assert str(error.value).removeprefix(":").startswith(reason)


def test_aliases_count_for_what_they_stand_for() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (told,) = refused("\n".join(lines))
    assert told.startswith("6: more than 1,000,000 values")

    deep = "\n".join(["a0: &a0 []", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 120))])
    (told,) = refused(deep)
    assert told == "100: values are nested more than 100 deep"


def test_an_alias_is_as_good_as_what_it_stands_for() -> None:
    aliased = LIBRARY.replace("204: {", "204: &gone {").replace(
        "default: {description: What came last}", "default: *gone"
    )
    assert made(aliased).artifact.parts[0] == made(LIBRARY).artifact.parts[0]


def test_words_of_yaml_1_1_are_text() -> None:
    document = LIBRARY.replace("title: Town Library", "title: no").replace("2.1.0", "2024-01-01")
    assert str(made(document).artifact.identity) == "api no 2024-01-01"


def test_a_reference_that_leads_to_nothing_is_refused() -> None:
    assert refused(LIBRARY.replace("parameters/isbn'", "parameters/ibsn'")) == [
        "15: #/paths/~1books~1{isbn}/parameters/0/$ref: "
        "'#/components/parameters/ibsn' leads to nothing in this document"
    ]


def test_a_character_that_no_xml_holds_is_refused() -> None:
    (told,) = refused(json.dumps(SHOP, ensure_ascii=False).replace("What", "\ufffe"))
    assert told.endswith("has the character U+FFFE, which no XML can hold; take it out")


# What is wrong with the options ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"endpoint": "backend:80"}, "--endpoint must be http://host"),
        ({"endpoint": "/backend"}, "--endpoint must be http://host"),
        ({"endpoint": "http://u:p@backend"}, "--endpoint has a login in it"),
        ({"endpoint": "http://backend?a=1"}, "--endpoint has a query or a fragment"),
        ({"endpoint": "http://backend/{a}"}, "--endpoint has a character that endpoints"),
        ({"endpoint": "http://bäckend"}, "--endpoint has a character that endpoints"),
        ({"endpoint": "http://backend:99999"}, "--endpoint is no URL"),
        ({"endpoint": "http://backend:0"}, "--endpoint has port 0"),
        ({"endpoint": "http://[::1"}, "--endpoint is no URL"),
        ({"sandbox_endpoint": "ftp://backend"}, "--sandbox-endpoint must be http://host"),
        ({"context": "shop"}, "--context 'shop' must be a path"),
        ({"context": "/shop/"}, "--context '/shop/' must be a path"),
        ({"context": "/a b"}, "--context '/a b' must be a path"),
        ({"context": "/a/../b"}, "--context '/a/../b' must be a path"),
        ({"name": "a b"}, "--name 'a b' has a space or a character"),
        ({"name": "a/b"}, "--name 'a/b' has a space or a character"),
        ({"name": "a\u200bb"}, "--name 'a\\u200bb' has a space or a character"),
        ({"name": "n" * 101}, "the API's name has 101 bytes; at most 100"),
        ({"version": "1 beta"}, "--version '1 beta' cannot be a step of the API's URL"),
        ({"version": ".."}, "--version '..' cannot be a step of the API's URL"),
        ({"version": "1" * 101}, "--version '11"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, str], reason: str) -> None:
    (told,) = refused(SHOP, **options)
    assert told.startswith(reason)


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({"title": "...", "version": "1"}, "1: #/info/title: makes no name for the API"),
        ({"title": "a", "version": "1/2"}, "1: #/info/version: '1/2' cannot be a step"),
        ({"title": "a", "version": ""}, "1: #/info/version: '' cannot be a step"),
    ],
)
def test_what_the_document_does_not_say_is_asked_for(info: dict[str, str], reason: str) -> None:
    (told,) = refused(SHOP | {"info": info})
    assert told.startswith(reason)
    assert "with --" in told


def test_without_a_server_the_endpoint_is_asked_for() -> None:
    reason = "the document names no server that requests could be sent to"
    for servers in ([], [{"url": "/lending"}], [{"url": "{x}://a"}], [{"url": "wss://a"}]):
        document = yaml.safe_load(LIBRARY) | {"servers": servers}
        assert refused(document, endpoint="") == [f"{reason}; name one with --endpoint https://..."]


def test_a_title_that_makes_no_path_asks_for_a_context() -> None:
    document = yaml.safe_load(LIBRARY)
    document["info"]["title"] = "Bücherei"
    (told,) = refused(document)
    assert told.endswith("the context would be '/bücherei', which is none; give it with --context")
    assert describe(made(document, context="/lend").artifact).context == "/lend/2.1.0"


@pytest.mark.parametrize(
    ("options", "documents", "reason"),
    [
        (OpenApiOptions(), 0, ""),
        (OpenApiOptions(), 2, ""),
        (BACKEND, 1, ""),
        (BACKEND, 2, ""),
        (BACKEND, 0, "--endpoint: for OpenAPI documents only, and no PATH is one"),
        (OpenApiOptions(name="a", context="/b"), 2, "--context, --name: for one OpenAPI document"),
        (OpenApiOptions(allow_unauthenticated=True), 0, "--allow-unauthenticated: for OpenAPI"),
    ],
)
def test_options_that_speak_of_no_document_or_of_several_are_refused(
    options: OpenApiOptions, documents: int, reason: str
) -> None:
    assert options.why_not(documents).startswith(reason)
    assert bool(reason) == bool(options.why_not(documents))
