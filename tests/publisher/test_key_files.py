"""Files of private keys: who may read them, what they must be, and which key signs."""

import itertools
import os
from pathlib import Path

import pytest

from gatesync.publisher.key_files import KeyFileError, KeyFolder, signing_key

pytestmark = [pytest.mark.fast, pytest.mark.promise(8)]


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    seconds = itertools.count(1_700_000_000)
    return KeyFolder(tmp_path / "keys", clock=lambda: next(seconds))


def signs(folder: KeyFolder, pinned: str | None = None) -> str:
    found = signing_key(folder.read(), pinned)
    return found.key_id if found is not None else "none"


def test_the_first_key_signs_and_a_second_waits_until_it_is_used(folder: KeyFolder) -> None:
    assert signs(folder) == "none"
    first, second = folder.create(), folder.create()
    assert signs(folder) == first.key_id
    folder.use(second.key_id)
    assert signs(folder) == second.key_id
    folder.use(first.key_id)
    assert signs(folder) == first.key_id
    assert folder.retire(first.key_id)
    assert not folder.retire(first.key_id)
    assert signs(folder) == second.key_id
    folder.retire(second.key_id)
    assert signs(folder) == "none"
    third = folder.create()
    assert signs(folder) == third.key_id
    assert [each.key_id for each in folder.read()] == [first.key_id, second.key_id, third.key_id]


def test_a_pinned_key_signs_or_nothing_does(folder: KeyFolder) -> None:
    first, second = folder.create(), folder.create()
    assert signs(folder, second.key_id) == second.key_id
    folder.retire(second.key_id)
    with pytest.raises(KeyFileError, match="is retired; name another"):
        signs(folder, second.key_id)
    with pytest.raises(KeyFileError, match="not in the folder of keys"):
        signs(folder, "0" * 16)
    assert signs(folder, first.key_id) == first.key_id


def test_a_retired_key_is_not_used_again(folder: KeyFolder) -> None:
    key = folder.create()
    folder.retire(key.key_id)
    with pytest.raises(KeyFileError, match="is retired; make a new one"):
        folder.use(key.key_id)
    for change in (folder.use, folder.retire):
        with pytest.raises(KeyFileError, match="there is no key 'nobody'"):
            change("nobody")


def test_a_key_file_is_for_its_owner_alone(folder: KeyFolder) -> None:
    key = folder.create()
    path = folder.path / f"{key.key_id}.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.path.stat().st_mode & 0o777 == 0o700
    for mode in (0o640, 0o604, 0o644, 0o620):
        path.chmod(mode)
        with pytest.raises(KeyFileError) as caught:
            folder.read()
        assert f"{path}: others can access this private key (mode 0{mode:o})" in str(caught.value)
        assert "chmod 600" in str(caught.value)
    path.chmod(0o600)
    assert [each.key_id for each in folder.read()] == [key.key_id]


def test_nobody_else_may_put_keys_into_the_folder(folder: KeyFolder) -> None:
    folder.create()
    folder.path.chmod(0o770)
    with pytest.raises(KeyFileError, match=r"others could put keys into it .* chmod 700"):
        folder.read()


def test_links_and_what_is_no_file_are_refused(folder: KeyFolder) -> None:
    key = folder.create()
    path = folder.path / f"{key.key_id}.json"
    path.rename(folder.path / "elsewhere")
    path.symlink_to(folder.path / "elsewhere")
    with pytest.raises(KeyFileError, match="is a link"):
        folder.read()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(KeyFileError, match="is no file"):
        folder.read()


def test_a_file_that_is_not_the_key_of_its_name_is_refused(folder: KeyFolder) -> None:
    key, other = folder.create(), folder.create()
    path = folder.path / f"{key.key_id}.json"
    good = path.read_bytes()
    private = good.partition(b"gssk_")[2][:43].decode()
    broken = [
        b"",
        b"{}",
        good[: len(good) // 2],
        (folder.path / f"{other.key_id}.json").read_bytes(),
        good.replace(private.encode(), private[:-4].encode() + b"AAAA"),
        good.replace(b"gssk_", b"gspk_"),
        good.replace(b'"created_at": ', b'"created_at": "x"'),
    ]
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(KeyFileError, match="is not the key that its name says") as caught:
            folder.read()
        assert private[:20] not in str(caught.value)
    path.write_bytes(good.replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(KeyFileError, match="has format 2; this version reads 1"):
        folder.read()
    path.write_bytes(good)
    (folder.path / "README").write_text("what is no key by its name is left alone")
    assert len(folder.read()) == 2


def test_no_repr_shows_a_private_key(folder: KeyFolder) -> None:
    key = folder.create()
    private = (folder.path / f"{key.key_id}.json").read_text().partition("gssk_")[2][:43]
    assert private not in repr(folder.read())
    assert private not in str(vars(folder))
