"""Envoy as the engine: artifacts become xDS resources, which a real Envoy serves."""
