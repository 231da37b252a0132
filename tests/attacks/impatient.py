"""In the process that names this adapter, connections have a second where others have twenty.

[gatesync.event_hub]
adapter = "tests.attacks.impatient:open_nats_hub"
"""

from gatesync.events.nats import open_nats_hub
from gatesync.web.connection import LimitedConnection

__all__ = ["open_nats_hub"]

LimitedConnection.head_seconds = 1.0
LimitedConnection.body_seconds = 1.0
LimitedConnection.answer_seconds = 1.0
