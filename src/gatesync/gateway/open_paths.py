"""What anybody may ask of a gateway's HTTP, beside `/health/`."""

from typing import Final

__all__ = ["OPEN_PATHS", "STARTUP_PATH", "WSO2_BASE"]

WSO2_BASE: Final = "/api/am/gateway/v2"
STARTUP_PATH: Final = f"{WSO2_BASE}/server-startup-healthcheck"
OPEN_PATHS: Final = (STARTUP_PATH,)
