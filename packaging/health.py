"""Whether the role in this container lives; the exit code says it. For a container's health check.

GATESYNC_HEALTH names what to ask: `http://HOST:PORT` of a publisher or a gateway, whose
/health/live answers, or `tcp://HOST:PORT` of a traffic manager, which accepts a connection.
"""

import http.client
import os
import socket
import sys
from urllib.parse import urlsplit

TIMEOUT = 5.0  # seconds


def trouble(url: str) -> str | None:
    """Why what is asked does not live; None: it does."""
    asked = urlsplit(url)
    host, port = asked.hostname or "127.0.0.1", asked.port or 9640
    try:
        if asked.scheme == "tcp":
            socket.create_connection((host, port), TIMEOUT).close()
            return None
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        connection.request("GET", "/health/live")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{url}: {error}"
    return None if status == http.client.OK else f"{url}/health/live: {status}"


if __name__ == "__main__":
    sys.exit(trouble(os.environ.get("GATESYNC_HEALTH", "http://127.0.0.1:9640")))
