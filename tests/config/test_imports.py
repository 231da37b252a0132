import subprocess
import sys

import pytest

pytestmark = pytest.mark.fast


def test_reading_the_configuration_loads_no_database_terminal_or_xml_library() -> None:
    code = (
        "import sys, gatesync.config; gatesync.config.load(None);"
        "print({'sqlalchemy', 'typer', 'rich', 'lxml', 'litestar', 'nats'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
