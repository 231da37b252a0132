"""What the demo publishes: the examples, and APIs that it makes up, as folders of files."""

import hashlib
import re
import shutil
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from gatesync.artifacts import canonical
from gatesync.artifacts.folder import artifact_from_files

__all__ = [
    "EXAMPLES",
    "Input",
    "edit",
    "generate",
    "generate_one",
    "path_to_call",
    "read_folder",
    "use_examples",
]

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"

_AREAS: Final = (
    "Retail", "Freight", "Clinic", "Library", "Transit",
    "Hotel", "Payroll", "Energy", "Farm", "Museum",
)  # fmt: skip
_THINGS: Final = (
    "Orders", "Invoices", "Customers", "Inventory", "Bookings",
    "Schedules", "Reports", "Notices", "Suppliers", "Payments",
)  # fmt: skip

_API: Final = """\
<?xml version="1.0" encoding="UTF-8"?>
<api xmlns="http://ws.apache.org/ns/synapse" name="admin--{name}" context="{context}" \
version="1.0.0" version-type="context">
{resources}</api>
"""
_RESOURCE: Final = """\
   <resource methods="{methods}" {match}="{path}" faultSequence="fault">
      <inSequence>
         <property name="api.ut.backendRequestTime" expression="get-property('SYSTEM_TIME')"/>
         <send>
            <endpoint key="{name}--v1.0.0_APIproductionEndpoint"/>
         </send>
      </inSequence>
      <outSequence>
         <send/>
      </outSequence>
   </resource>
"""
_ENDPOINT: Final = """\
<?xml version="1.0" encoding="UTF-8"?>
<endpoint xmlns="http://ws.apache.org/ns/synapse" name="{name}--v1.0.0_APIproductionEndpoint">
   <http uri-template="http://{host}{context}">
      <timeout>
         <duration>30000</duration>
         <responseAction>fault</responseAction>
      </timeout>
   </http>
</endpoint>
"""
_ARTIFACT: Final = """\
format = "gatesync.folder/1"
kind = "api"
name = "{name}"
version = "1.0.0"
"""
_MATCHES: Final = (
    ("GET", "uri-template", "/{thing}/{{id}}"),
    ("POST", "url-mapping", "/{thing}"),
    ("DELETE", "uri-template", "/{thing}/{{id}}"),
    ("GET", "url-mapping", "/{thing}"),
    ("PUT", "uri-template", "/{thing}/{{id}}/state"),
)


class Input(NamedTuple):
    """An artifact as the files say that it is. `digest` is the SHA-256 of `content`."""

    name: str
    api_id: str
    content: bytes
    digest: str

    @property
    def item(self) -> dict[str, object]:
        """How a publish request carries it."""
        return {"artifact": msgspec.Raw(self.content), "digest": self.digest}


def use_examples(folder: Path, upstream: str = "") -> list[Path]:
    """Copy the examples, so that they can be edited; answers with the copies.

    Their endpoints are at `upstream` (`HOST:PORT`) then, if that is given.
    """
    shutil.copytree(EXAMPLES, folder)
    for path in folder.glob("*/endpoints/*.xml") if upstream else ():
        _write(path, re.sub(r"http://[\w.-]+:\d+", f"http://{upstream}", path.read_text()))
    return sorted(each.parent for each in folder.glob("*/artifact.toml"))


def generate(folder: Path, count: int, upstream: str = "") -> list[Path]:
    """Write up to 100 APIs of 1 to 4 kB, the same ones each time; answers with their folders."""
    names = [(area, thing) for thing in _THINGS for area in _AREAS][:count]
    return [
        generate_one(folder, area, thing, number, upstream)
        for number, (area, thing) in enumerate(names)
    ]


def generate_one(folder: Path, area: str, thing: str, number: int, upstream: str = "") -> Path:
    """Write one API, the larger the higher its number modulo 5 is; answers with its folder."""
    name = f"{area}{thing}API"
    context = f"/{area.lower()}/{thing.lower()}/1.0.0"
    resources = "".join(
        _RESOURCE.format(
            methods=methods, match=match, path=path.format(thing=thing.lower()), name=name
        )
        for methods, match, path in _MATCHES[: 1 + number % len(_MATCHES)]
    )
    made = folder / f"{name}_v1.0.0"
    host = upstream or f"{area.lower()}.internal.example:8080"
    _write(made / "artifact.toml", _ARTIFACT.format(name=name))
    _write(
        made / "api" / f"admin--{name}_v1.0.0.xml",
        _API.format(name=name, context=context, resources=resources),
    )
    _write(
        made / "endpoints" / f"{name}--v1.0.0_APIproductionEndpoint.xml",
        _ENDPOINT.format(name=name, host=host, context=context),
    )
    return made


def path_to_call(folder: Path) -> str:
    """A path that its API answers a GET of; an empty string for what is no API."""
    for path in (folder / "api").glob("*.xml"):
        xml = path.read_text()
        context = re.search(r' context="([^"]+)"', xml)
        resource = re.search(r'methods="GET" (?:uri-template|url-mapping)="([^"]+)"', xml)
        if context and resource:
            return context[1] + re.sub(r"\{\w+\}", "1", resource[1])
    return ""


def edit(folder: Path, remark: str) -> None:
    """Change one artifact: a remark in the XML of its API."""
    (path,) = (folder / "api").glob("*.xml")
    head, end, _ = path.read_text().rpartition("</api>")
    kept = head.partition("   <!-- demo: ")[0]
    _write(path, f"{kept}   <!-- demo: {remark} -->\n{end}\n")


def read_folder(folder: Path) -> Input:
    """What a gateway must hold of this folder, from its files alone."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    artifact = artifact_from_files(files)
    content = canonical.encode(artifact)
    digest = hashlib.sha256(content).hexdigest()
    return Input(artifact.identity.name, artifact.api_id, content, digest)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
