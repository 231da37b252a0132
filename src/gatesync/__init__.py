"""gatesync keeps every node of an API-gateway cluster serving the same artifacts."""

__version__ = "0.1.0"
