"""Extension point 2: the broker that carries events."""
