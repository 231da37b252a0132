import pytest

# So that a failed assert in the contract suite shows the values that it compared.
pytest.register_assert_rewrite(
    *(f"tests.contracts.{name}" for name in ("saves", "store_compacting", "store_reading")),
    "tests.contracts.store_saving",
)
