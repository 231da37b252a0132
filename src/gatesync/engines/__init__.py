"""Extension point 3: what a gateway deploys into."""
