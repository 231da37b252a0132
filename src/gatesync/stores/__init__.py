"""Extension point 1: where artifacts rest, and how they are read."""
