"""export, as its user sees it, and what it does when what it reads changes or is damaged."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gatesync.artifacts.canonical import decode, encode
from gatesync.artifacts.digests import EMPTY_LABEL, digest_of
from gatesync.cli.exporting import BATCH_BYTES, _export, _Gateway, _Item, _Listing, make_form
from gatesync.cli.importing import read_exported
from gatesync.cli.output import Output
from gatesync.cli.session import CommandError
from gatesync.gateway.admin import GatewayStatus, HeldAnswer, HeldArtifact
from gatesync.stores.batching import in_batches
from gatesync.stores.wire import BATCH_DIGESTS
from gatesync.web.client import Response
from tests.servers.gatesync import EXAMPLES, LABEL, Place, document, publishing, sequence_xml

FOLDER = make_form("folder", None)


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _label_digests(folder: Path) -> dict[str, str]:
    """The digest of each label, of what its exported files say."""
    digests = {}
    for label, artifacts in read_exported(folder, None).artifacts.items():
        digest = EMPTY_LABEL
        for artifact in (each.load() for each in artifacts):
            digest = digest.add(artifact.api_id, digest_of(encode(artifact)))
        digests[label] = digest.total
    return digests


def test_a_label_becomes_folders_that_are_what_the_store_holds(
    cluster: Place, tmp_path: Path, sequence: Path, name: str
) -> None:
    assert cluster.run("publish", EXAMPLES / "pizzashack", sequence, "-l", name).code == 0
    done = cluster.run("export", "--label", name, "--to", tmp_path / "out")

    assert (done.code, done.err) == (0, "")
    files = _files(tmp_path / "out")
    size = sum(map(len, files.values()))
    assert done.out.splitlines() == [
        f"{name}: 2 artifacts at revision 2",
        f"exported 2 artifacts to {tmp_path / 'out'} ({len(files)} files, {size} bytes)",
    ]
    above = f"{name}/carbon.super/sequence/{name}/~"
    assert files[f"{above}/sequences/{sequence.name}"] == sequence.read_bytes()
    api = f"{name}/carbon.super/api/PizzaShackAPI~1c21/1.0.0"
    for path, content in _files(EXAMPLES / "pizzashack").items():
        assert path == "artifact.toml" or files[f"{api}/{path}"] == content


def test_labels_of_any_name_come_back_from_the_names_of_folders(
    cluster: Place, tmp_path: Path, sequence: Path, name: str
) -> None:
    ends = ["a/b", "A/b", "a:b", "\U0001f355", "x ", "x", " x", ".", "..", "con", "é", "e\u0301"]
    labels = [f"{name}{end}" for end in ends] + ["..", "ü" * 127, "y" * 255]
    options = [f"--label={label}" for label in labels]
    assert cluster.run("publish", sequence, *options).code == 0

    done = cluster.run("export", *options, "--to", tmp_path / "out", "--json")

    assert done.code == 0, done.err
    heads = {head["label"]: head for head in cluster.heads()}
    assert done.json()["heads"] == [heads[label] for label in labels]
    assert done.json()["artifacts"] == len(labels)
    assert _label_digests(tmp_path / "out") == {
        label: heads[label]["digest"]["total"] for label in labels
    }


def test_a_gateway_exports_what_it_serves(
    cluster: Place, tmp_path: Path, sequence: Path, name: str
) -> None:
    assert cluster.run("publish", sequence, "-l", "Second", "--wait", "all").code == 0
    arguments = ("export", "--gateway", cluster.gateway, "--to", tmp_path / "out", "--json")
    done = cluster.run(*arguments, GATESYNC_TOKEN=cluster.admin_token())

    assert done.code == 0, done.err
    digests = {head["label"]: head["digest"]["total"] for head in done.json()["heads"]}
    assert _label_digests(tmp_path / "out") == digests
    second = next(head for head in cluster.heads() if head["label"] == "Second")
    assert next(h for h in done.json()["heads"] if h["label"] == "Second") == second
    assert done.json()["artifacts"] == len(cluster.held())
    assert name in {
        each.identity.name for each in read_exported(tmp_path / "out", None).found.artifacts
    }


def test_who_may_not_read_a_gateway_is_told_what_to_do(
    cluster: Place, tmp_path: Path, name: str
) -> None:
    to = ("--to", tmp_path / "out")
    wrong = tmp_path / "wrong.token"
    wrong.write_text(f"{name}\n")
    wrong.chmod(0o600)
    for arguments in ((), ("--token-file", wrong)):
        done = cluster.run("export", "--gateway", cluster.gateway, *to, *arguments)
        assert (done.code, done.out) == (2, "")
        assert "admin.token in its data folder: --token-file FILE, or GATESYNC_TOKEN" in done.err
        assert name not in done.err

    wrong.chmod(0o644)
    done = cluster.run("export", "--gateway", cluster.gateway, *to, "--token-file", wrong)
    assert done.code == 2
    assert f"--token-file: {wrong}: others can access it" in done.err

    token = ("--token-file", cluster.data / "admin.token")
    done = cluster.run("export", "--gateway", "http://127.0.0.1:9", *to, *token)
    assert done.code == 3
    assert "http://127.0.0.1:9 cannot be reached" in done.err
    assert "the address that the gateway itself listens on" in done.err

    done = cluster.run(
        "export", "--gateway", cluster.publisher, *to, GATESYNC_TOKEN=cluster.operator
    )
    assert done.code == 2
    assert "is no gateway; for what a publisher holds, use --label" in done.err
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_told_before_anything_is_written(
    cluster: Place, tmp_path: Path, sequence: Path, name: str
) -> None:
    assert cluster.run("publish", sequence, "-l", name).code == 0
    (tmp_path / "full" / "mine").mkdir(parents=True)
    to = ("--to", tmp_path / "out")
    for arguments, reason in (
        (("--label", name, "--to", tmp_path / "full"), "is there already"),
        (to, "labels with --label, or a --gateway"),
        (("--label", name, "--gateway", cluster.gateway, *to), "labels or a gateway, not both"),
        (("--label", f"{name}x", *to), f"nothing was ever published to label '{name}x'"),
        (("--label", name, "--format", "zip", *to), "'zip' is unknown; write folder, tree or wso2"),
        (("--label", name, "--tenant", "a.com", *to), "--tenant belongs to --format tree"),
    ):
        done = cluster.run("export", *arguments)
        assert (done.code, done.out) == (2, ""), arguments
        assert reason in done.err
    known = cluster.run("export", "--label", f"{name}x", *to).err
    assert f"'{name}'" in known.splitlines()[1]
    done = cluster.run("export", "--label", name, *to, "--publisher", "http://127.0.0.1:9")
    assert done.code == 3
    done = cluster.run("export", "--label", name, *to, GATESYNC_TOKEN="no token")
    assert done.code == 2
    assert "set GATESYNC_TOKEN" in done.err
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["full"]


def test_a_node_exports_the_labels_that_it_may_read(
    cluster: Place, tmp_path: Path, sequence: Path, name: str
) -> None:
    assert cluster.run("publish", sequence, "-l", name, "-l", "Second").code == 0
    token = cluster.create_token("node", name, name)
    may = cluster.run("export", "-l", name, "--to", tmp_path / "may", GATESYNC_TOKEN=token)
    assert may.code == 0, may.err
    may_not = cluster.run("export", "-l", "Second", "--to", tmp_path / "not", GATESYNC_TOKEN=token)
    assert may_not.code == 2
    assert "may not read label 'Second'" in may_not.err


def test_a_tree_of_several_labels_holds_what_they_share_once(
    cluster: Place, tmp_path: Path, sequence: Path, name: str
) -> None:
    one, two = f"{name}1", f"{name}2"
    assert cluster.run("publish", sequence, "-l", one, "-l", two).code == 0
    export = ("export", "-l", one, "-l", two, "--format", "tree", "--to", tmp_path / "out")
    place = f"deployment/server/synapse-configs/default/sequences/{sequence.name}"

    done = cluster.run(*export, "--json")
    assert done.code == 0, done.err
    assert _files(tmp_path / "out") == {place: sequence.read_bytes()}
    assert (done.json()["files"], done.json()["artifacts"]) == (1, 2)

    sequence.write_bytes(sequence_xml(name, "else"))
    assert cluster.run("publish", sequence, "-l", two).code == 0
    (tmp_path / "out").rename(tmp_path / "before")
    done = cluster.run(*export)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"gatesync: {place}: is a file of sequence {name} in label '{one}' and of "
        f"sequence {name} in label '{two}'; export the labels one by one\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_tenants_files_are_where_its_server_has_them(
    cluster: Place, tmp_path: Path, sequence: Path, name: str
) -> None:
    tenant = ("--tenant", "a.example")
    assert cluster.run("publish", sequence, "-l", name, *tenant).code == 0
    below = f"synapse-configs/default/sequences/{sequence.name}"
    for options, place in (
        ((), f"tenants/a.example/{below}"),
        (tenant, f"deployment/server/{below}"),
    ):
        to = tmp_path / place.split("/")[0]
        export = ("export", "-l", name, "--format", "tree", "--to", to)
        assert cluster.run(*export, *options).code == 0
        assert list(_files(to)) == [place]

    (tmp_path / "own.xml").write_bytes(sequence_xml(f"{name}own"))
    assert cluster.run("publish", tmp_path / "own.xml", "-l", name).code == 0
    export = ("export", "-l", name, "--format", "tree", "--to", tmp_path / "out")
    done = cluster.run(*export, *tenant)
    assert done.code == 2
    assert f"sequence {name}own/sequences/own.xml: has no place" in done.err


def test_a_label_that_was_emptied_is_an_empty_folder(
    cluster: Place, tmp_path: Path, sequence: Path, name: str
) -> None:
    assert cluster.run("publish", sequence, "-l", name).code == 0
    assert cluster.run("remove", name, "-l", name).code == 0
    done = cluster.run("export", "-l", name, "--to", tmp_path / "out")
    assert done.code == 0
    assert f"{name}: 0 artifacts at revision 2" in done.out
    assert list((tmp_path / "out").iterdir()) == []


def test_several_pages_and_batches_come_whole(cluster: Place, tmp_path: Path, name: str) -> None:
    count = 1_100  # more than a page of the list, and than four batches of contents
    body = publishing(*(document(f"{name}-{n}") for n in range(count)), label=name)
    assert cluster.ask("/v1/changes", method="POST", body=body).status == 200
    done = cluster.run("export", "-l", name, "--to", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    assert (done.err, done.json()["artifacts"], done.json()["files"]) == ("", count, 2 * count)
    (head,) = done.json()["heads"]
    assert _label_digests(tmp_path / "out") == {name: head["digest"]["total"]}


# What changes or is damaged on its way ---------------------------------------------------------


def _canonical(name: str, text: str = "hello") -> bytes:
    return encode(decode(_document(name, text)))


def _document(name: str, text: str) -> bytes:
    return json.dumps(document(name, sequence_xml(name, text), api_id=name)).encode()


def _item(name: str, content: bytes) -> _Item:
    return _Item(LABEL, name, digest_of(content), len(content), f"sequence {name}")


class _Changing:
    """A source whose contents are good from the given attempt on."""

    def __init__(self, good_from: int) -> None:
        self.attempts = 0
        self._good_from = good_from
        self._contents = [_canonical("a"), _canonical("b")]

    async def listing(self) -> _Listing:
        self.attempts += 1
        names = zip(("a", "b"), self._contents, strict=True)
        return _Listing([], [_item(name, content) for name, content in names])

    async def contents(self, items: Sequence[_Item]) -> Mapping[str, bytes]:
        good = self._contents[: 2 if self.attempts >= self._good_from else 1]
        return {digest_of(content): content for content in good}

    async def check_unchanged(self, listing: _Listing) -> None:
        return


@pytest.mark.fast
async def test_what_changes_while_it_is_read_is_read_again_from_the_beginning(
    tmp_path: Path,
) -> None:
    source = _Changing(good_from=3)
    exported = await _export(source, tmp_path / "out", FOLDER, Output(json=True))
    assert source.attempts == 3
    assert (exported.artifacts, exported.files) == (2, 4)
    assert _names(tmp_path) == ["out"]


@pytest.mark.fast
async def test_what_never_stays_the_same_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no content of sequence b has the digest") as raised:
        await _export(_Changing(good_from=4), tmp_path / "out", FOLDER, Output(json=True))
    assert raised.value.code == 1
    assert _names(tmp_path) == []


class _Answering:
    """A gateway that serves one artifact, and sends these bytes for it."""

    def __init__(self, listed: bytes, sent: Iterator[bytes]) -> None:
        self.held = HeldAnswer((HeldArtifact("a", digest_of(listed), len(listed), LABEL),))
        self.sent = sent

    async def get(self, path: str, answer: type[Any]) -> Any:
        if answer is HeldAnswer:
            return self.held
        return GatewayStatus(node="gw1", ready=True)

    async def request(self, method: str, path: str, params: list[tuple[str, str]]) -> Response:
        assert (method, path, params) == ("GET", "/v1/held/content", [("api_id", "a")])
        return Response(200, {}, next(self.sent))


@pytest.mark.fast
@pytest.mark.promise(8)
async def test_bytes_that_have_not_the_digest_they_were_listed_with_are_not_exported(
    tmp_path: Path,
) -> None:
    good, bad = _canonical("a"), _canonical("a", "hallo")
    gateway = _Answering(good, iter([bad, good]))
    await _export(_Gateway(gateway), tmp_path / "out", FOLDER, Output(json=True))  # type: ignore[arg-type]
    files = _files(tmp_path / "out")
    assert sequence_xml("a") in files.values()

    gateway = _Answering(good, iter([bad] * 3))
    with pytest.raises(CommandError, match="3 times in a row"):
        await _export(_Gateway(gateway), tmp_path / "bad", FOLDER, Output(json=True))  # type: ignore[arg-type]
    assert _names(tmp_path) == ["out"]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("sizes", "batches"),
    [([], []), ([1] * 300, [180, 120]), ([9_000_000] * 3, [1, 1, 1]), ([20_000_000, 1], [1, 1])],
)
def test_a_batch_is_bounded_by_number_and_by_bytes(sizes: list[int], batches: list[int]) -> None:
    items = [_Item(LABEL, str(n), "", size, "") for n, size in enumerate(sizes)]
    assert [len(batch) for batch in in_batches(items, BATCH_BYTES, BATCH_DIGESTS)] == batches
    assert [
        item for batch in in_batches(items, BATCH_BYTES, BATCH_DIGESTS) for item in batch
    ] == items
