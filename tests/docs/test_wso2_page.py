"""docs/wso2-json.md shows what the code really makes of its example."""

import io
import json
import re
from pathlib import Path

import pytest

from gatesync.artifacts.errors import ProblemsError
from gatesync.artifacts.folder import files_of
from gatesync.artifacts.wso2 import artifact_from_wso2, wso2_json
from gatesync.cli.output import Output
from gatesync.cli.reading import Found

pytestmark = pytest.mark.fast

PAGE = (Path(__file__).parents[2] / "docs" / "wso2-json.md").read_text()
GIVEN, FOLDER, TOML, WRITTEN = re.findall(r"```\w*\n(.*?)```", PAGE, re.S)


def test_the_example_is_what_comes_of_it() -> None:
    read = artifact_from_wso2(GIVEN.encode(), "menu.json")
    files = files_of(read.artifact)
    assert FOLDER.splitlines() == list(files)
    assert files["artifact.toml"].decode() == TOML
    assert f"{json.dumps(json.loads(wso2_json(read.artifact)), indent=2)}\n" == WRITTEN


def test_the_faults_and_the_note_are_told_so() -> None:
    wrong = json.loads(GIVEN) | {"override": "yes", "sequenceToBeAdd": [{"name": "in"}]}
    del wrong["apiDefinition"]
    with pytest.raises(ProblemsError) as refused:
        artifact_from_wso2(json.dumps(wrong).encode(), "menu.json")
    told = "".join(f"    gatesync: {problem}\n" for problem in refused.value.problems)
    assert f"\n\n{told}\n" in PAGE

    output = Output(json=False)
    output.errors.file = io.StringIO()
    secrets = artifact_from_wso2(GIVEN.encode(), "menu.json").secrets
    Found([], [], secrets=list(secrets)).tell_asides(output)
    assert f"\n\n    {output.errors.file.getvalue()}\n" in PAGE
