"""How much time the long tests may take."""

import os
from typing import Final

BUDGET: Final = float(os.environ.get("GATESYNC_TEST_BUDGET", "1"))
"""Multiplies the seconds, rounds and examples of the tests that look for rare things."""
