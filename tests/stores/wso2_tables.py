"""Databases as WSO2 3.2 leaves them: its two tables, by a script of its style, with rows."""

import json
import random
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url

DRIVERS: Final = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}
FIRST: Final = datetime(2021, 3, 1, 12, 0, 0)  # as the column holds it
DETAILS: Final = """CREATE TABLE AM_GW_PUBLISHED_API_DETAILS (
    API_ID varchar(255) NOT NULL,
    TENANT_DOMAIN varchar(255),
    API_PROVIDER varchar(255),
    API_NAME varchar(255),
    API_VERSION varchar(255),
    PRIMARY KEY (API_ID)
){}"""
ARTIFACTS: Final = """CREATE TABLE AM_GW_API_ARTIFACTS (
    API_ID varchar(255) NOT NULL,
    ARTIFACT {},
    GATEWAY_INSTRUCTION varchar(20),
    GATEWAY_LABEL varchar(255),
    TIME_STAMP TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (GATEWAY_LABEL, API_ID),
    FOREIGN KEY (API_ID) REFERENCES AM_GW_PUBLISHED_API_DETAILS (API_ID)
        ON UPDATE CASCADE ON DELETE NO ACTION
){}"""
LATIN1: Final = " ENGINE=InnoDB DEFAULT CHARSET=latin1"
TRIGGER: Final = (
    "CREATE FUNCTION update_modified_column() RETURNS TRIGGER AS $$ BEGIN NEW.TIME_STAMP = now();"
    " RETURN NEW; END; $$ LANGUAGE plpgsql",
    "CREATE TRIGGER TIME_STAMP AFTER UPDATE ON AM_GW_API_ARTIFACTS FOR EACH ROW"
    " EXECUTE PROCEDURE update_modified_column()",
)
NAMESPACE: Final = "http://ws.apache.org/ns/synapse"


class Row(NamedTuple):
    """A row of both tables."""

    label: str
    api_id: str
    document: bytes
    instruction: str = "Publish"
    minute: int = 0
    tenant: str = "carbon.super"
    name: str = ""
    version: str = "1.0.0"


def engine_of(url: str) -> Engine:
    """One that does nothing by itself."""
    parsed = make_url(url)
    return create_engine(
        parsed.set(drivername=DRIVERS.get(parsed.drivername, parsed.drivername)),
    )


def document(
    name: str, api_id: str, *, version: str = "1.0.0", tenant: str = "carbon.super", **more: Any
) -> bytes:
    """What WSO2 keeps of an API, its lists in whatever order a hash set has that day."""
    context = f"/{name.lower()}/{version}"
    if tenant != "carbon.super":
        context = f"/t/{tenant}{context}"
    endpoints = [f"{name}--v{version}_API{kind}Endpoint" for kind in ("production", "sandbox")]
    random.shuffle(endpoints)
    members: dict[str, Any] = {
        "name": name,
        "version": version,
        "provider": "admin",
        "tenantDomain": tenant,
        "apiId": api_id,
        "apiDefinition": f'<api xmlns="{NAMESPACE}" name="admin--{name}" context="{context}" '
        f'version="{version}" version-type="context"><resource methods="GET" uri-template="/*">'
        f'<inSequence><send><endpoint key="{name}--v{version}_APIproductionEndpoint"/></send>'
        "</inSequence></resource></api>",
        "localEntriesToBeAdd": [
            {"name": api_id, "content": f'<localEntry key="{api_id}">{{}}</localEntry>'}
        ],
        "endpointEntriesToBeAdd": [
            {
                "name": each,
                "content": f'<endpoint xmlns="{NAMESPACE}" name="{each}">'
                f'<http uri-template="https://backend.example/{name}"/></endpoint>',
            }
            for each in endpoints
        ],
        "sequencesToBeRemove": random.sample(["a--In", "a--Out", "a--Fault"], 3),
        "override": True,
    }
    return json.dumps(members | more).encode()


def row(label: str, name: str, *, api_id: str = "", minute: int = 0, **more: Any) -> Row:
    """A row that can be taken over."""
    tenant, version = more.pop("tenant", "carbon.super"), more.pop("version", "1.0.0")
    instruction = more.pop("instruction", "Publish")
    api_id = api_id or f"id-of-{name}"
    content = document(name, api_id, version=version, tenant=tenant, **more)
    return Row(label, api_id, content, instruction, minute, tenant, name, version)


def make_wso2_tables(url: str, rows: Iterable[Row]) -> None:
    """Run the script of this kind of database, and write the rows."""
    engine = engine_of(url)
    try:
        with engine.begin() as connection:
            for statement in script(engine.dialect.name):
                connection.exec_driver_sql(statement)
            known: set[str] = set()
            for each in rows:
                values = each._asdict() | {"at": FIRST + timedelta(minutes=each.minute)}
                if each.api_id not in known:
                    known.add(each.api_id)
                    connection.execute(
                        text(
                            "INSERT INTO AM_GW_PUBLISHED_API_DETAILS"
                            " (API_ID, TENANT_DOMAIN, API_PROVIDER, API_NAME, API_VERSION)"
                            " VALUES (:api_id, :tenant, 'admin', :name, :version)"
                        ),
                        values,
                    )
                connection.execute(
                    text(
                        "INSERT INTO AM_GW_API_ARTIFACTS"
                        " (API_ID, ARTIFACT, GATEWAY_INSTRUCTION, GATEWAY_LABEL, TIME_STAMP)"
                        " VALUES (:api_id, :document, :instruction, :label, :at)"
                    ),
                    values,
                )
    finally:
        engine.dispose()


def script(dialect: str) -> Sequence[str]:
    if dialect == "postgresql":
        return DETAILS.format(""), ARTIFACTS.format("BYTEA", ""), *TRIGGER
    if dialect == "sqlite":
        return DETAILS.format(""), ARTIFACTS.format("BLOB", "")
    return DETAILS.format(LATIN1), ARTIFACTS.format("blob", LATIN1)


def rows_of(url: str, query: str) -> list[tuple[Any, ...]]:
    """What a query finds."""
    engine = engine_of(url)
    try:
        with engine.connect() as connection:
            return [tuple(each) for each in connection.execute(text(query))]
    finally:
        engine.dispose()
