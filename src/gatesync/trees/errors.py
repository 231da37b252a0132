"""What can go wrong with a tree, said with the path and what to do."""

__all__ = ["InTheWayError", "TreeError", "explain"]


class TreeError(Exception):
    """The tree, or the record of it, cannot be worked on."""


class InTheWayError(TreeError):
    """Something stands in a file's place that gatesync did not put there, and leaves alone."""


def explain(error: OSError | TreeError, path: str) -> str:
    """Why this file cannot be worked on, for people."""
    if isinstance(error, TreeError):
        return str(error)
    return f"{path} cannot be written: {error.strerror or error}"
