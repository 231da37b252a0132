"""The route that pushed events come in by; what happens to them is in `receiving`."""

from typing import Any, Final

from litestar import Request, post
from litestar.datastructures import State

from gatesync.events.pushed import EVENTS_PATH, PushAnswer
from gatesync.gateway.receiving import PUBLISHER, Receiver
from gatesync.web.app import ForbiddenError

__all__ = ["HANDLERS"]

_Ask = Request[Any, Any, State]


@post(EVENTS_PATH, status_code=200)
async def post_event(request: _Ask) -> PushAnswer:
    """Take an event that a publisher pushes, as its broker would carry it (msgpack).

    The answer says what the node made of it. 400: it cannot be read; 503: too many wait.
    """
    if request.user != PUBLISHER:
        raise ForbiddenError("only the push_token may push events, at /v1/events to the letter")
    receiver: Receiver = request.app.state.receiver
    made = await receiver.inbox.offer(await request.body())
    return PushAnswer(receiver.node, made, receiver.type)


HANDLERS: Final = [post_event]
