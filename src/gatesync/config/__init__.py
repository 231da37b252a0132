"""deployment.toml becomes settings."""
