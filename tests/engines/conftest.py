import pytest

# So that a failed assert in the contract suite shows the values that it compared.
pytest.register_assert_rewrite("tests.contracts.engine")
