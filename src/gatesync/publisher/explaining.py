"""How the publisher's own refusals look over HTTP: a status, and one document for all of them."""

from gatesync.artifacts.errors import FormatError, Problem, ProblemsError
from gatesync.publisher.audit_file import AuditError
from gatesync.publisher.contents import TooMuchError
from gatesync.publisher.service import RefusedError
from gatesync.stores.store import Behind, StoreError, TooOld
from gatesync.stores.wire import ProblemAnswer

__all__ = ["explain"]


def explain(error: Exception) -> tuple[int, ProblemAnswer] | None:
    """The status and the document; None for what is not the publisher's own."""
    match error:
        case ProblemsError():
            return 400, ProblemAnswer("invalid", tuple(str(each) for each in error.problems))
        case Problem() | FormatError():
            return 400, ProblemAnswer("invalid", (str(error),))
        case RefusedError():
            code = "key-used" if error.refused.key_used else "conflict"
            return 409, ProblemAnswer(code, error.refused.reasons)
        case Behind():
            return 409, ProblemAnswer("behind", (str(error),), error.head)
        case TooOld():
            return 410, ProblemAnswer("too-old", (str(error),))
        case StoreError(unsure=True):
            doubt = "it may be saved all the same; to repeat it with its idempotency key is safe"
            return 503, ProblemAnswer("unsure", (str(error), doubt))
        case AuditError():
            return 503, ProblemAnswer("audit", (str(error), "no change is made without its entry"))
        case TooMuchError():
            return 413, ProblemAnswer("too-much", (str(error),))
        case StoreError():
            return 503, ProblemAnswer("store", (str(error),))
        case _:
            return None
