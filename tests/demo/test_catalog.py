"""What the demo publishes is sound, its own, and changes when it is edited."""

from pathlib import Path

import pytest

from demo.catalog import EXAMPLES, edit, generate, path_to_call, read_folder, use_examples
from gatesync.artifacts.description import describe
from gatesync.cli.reading import read_artifacts

pytestmark = pytest.mark.fast


def test_a_hundred_generated_apis_are_sound_and_of_a_usual_size(tmp_path: Path) -> None:
    inputs = [read_folder(folder) for folder in generate(tmp_path, 100)]
    found = read_artifacts([tmp_path], None)
    assert not found.problems
    assert len(found.artifacts) == len({each.api_id for each in inputs}) == 100
    assert all(1_000 < len(each.content) < 4_096 for each in inputs)
    claims = [claim.key for each in found.artifacts for claim in describe(each.load()).claims]
    assert len(claims) == len(set(claims))


def test_they_are_the_same_each_time(tmp_path: Path) -> None:
    first, second = generate(tmp_path / "a", 5), generate(tmp_path / "b", 5)
    assert [*map(read_folder, first)] == [*map(read_folder, second)]


def test_editing_changes_the_bytes_and_nothing_else(tmp_path: Path) -> None:
    for folder in use_examples(tmp_path / EXAMPLES.name):
        if not (folder / "api").exists():
            continue
        before = read_folder(folder)
        edit(folder, "edit 1")
        once = read_folder(folder)
        edit(folder, "edit 2")
        twice = read_folder(folder)
        assert before.api_id == once.api_id == twice.api_id
        assert len({before.digest, once.digest, twice.digest}) == 3
        assert len(once.content) == len(twice.content)
        assert not read_artifacts([folder], None).problems


def test_each_api_has_a_path_that_it_answers(tmp_path: Path) -> None:
    folders = [*use_examples(tmp_path / "examples", "127.0.0.1:9"), *generate(tmp_path / "g", 20)]
    paths = {folder.name: path_to_call(folder) for folder in folders}
    assert paths["gold-policy"] == ""
    assert paths["menu"] == "/menu/2.1.0/today"
    assert len(set(paths.values())) == len(folders)
    endpoints = "".join(each.read_text() for each in tmp_path.glob("examples/*/endpoints/*"))
    assert endpoints.count("http://127.0.0.1:9/") == 3
