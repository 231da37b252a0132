"""Which database servers the tests of outages and kills run on: `make test DB=...`."""

import pytest

# So that a failed assert in these shows the values that it compared.
pytest.register_assert_rewrite("tests.promises.outage", "tests.promises.kills")

from tests.promises.outage import SERVERS  # noqa: E402 (after what is said above)

# Not a skip: whoever chose another database asked for nothing of these.
collect_ignore = [] if SERVERS else ["test_sql_outages.py", "test_sql_kills.py"]
