"""Everything that a node serves, as Envoy's resources, kept up to date change by change."""

from collections.abc import Collection, Sequence

from gatesync.artifacts.model import Artifact
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.resources import NOTHING, Applied, Resources

__all__ = ["Node"]


class Node:
    """A node's artifacts and the resources that they make. Not for several tasks at once.

    Args:
        options: the same for all artifacts.
    """

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, deploy: Sequence[Artifact], undeploy: Collection[str]) -> Applied:
        """Take artifacts in, anew or in another version, and others out, by api_id.

        Artifacts may come in any order: what they refer to is looked for in the whole change and
        in what is already there. One that cannot be served is refused and changes nothing. A
        shared sequence or endpoint is refused, too, where an API that is served would then no
        longer be. Taking out what is not there is no fault. The work is in proportion to the
        artifacts of the change, those that use them and the scopes that they share.
        """
        raise NotImplementedError

    def resources(self) -> Resources:
        """Everything that Envoy is to have now: the listener, the clusters, the scopes."""
        return NOTHING
