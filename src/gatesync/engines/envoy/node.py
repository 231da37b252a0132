"""Everything that a node serves, as Envoy's resources, kept up to date change by change."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec
from envoy.config.route.v3 import route_pb2, scoped_route_pb2

from gatesync.artifacts.model import DEPLOY_ORDER, Artifact, Part
from gatesync.engines.envoy.faults import Refusal
from gatesync.engines.envoy.listener import SCOPE_HEADER, listener
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.resources import CLUSTER, LISTENER, SCOPE, Applied, Message, Resources
from gatesync.engines.envoy.routes import DIRECT_MAX_BYTES
from gatesync.engines.envoy.sources import Need, names_of
from gatesync.engines.envoy.translation import Served, Translated, translate

__all__ = ["Node", "scope_of"]


class _Held(msgspec.Struct, frozen=True):
    """An artifact that is taken in, what Envoy is told of it, and what it refers to."""

    artifact: Artifact
    translated: Translated
    needs: frozenset[Need]


class Node:
    """A node's artifacts and the resources that they make. Not for several tasks at once.

    Args:
        options: the same for all artifacts.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self._listener = listener(options)
        self._held: dict[str, _Held] = {}
        self._names: dict[tuple[str, Need], str] = {}  # the api_id of who has a name, by tenant
        self._users: dict[tuple[str, Need], set[str]] = {}  # who refers to it
        self._apis: dict[str, dict[str, tuple[Served, ...]]] = {}  # by scope and api_id
        self._scopes: dict[str, Message] = {}
        self._clusters: dict[str, Message] = {}
        self._came: set[str] = set()  # clusters, in the change that is made now
        self._went: set[str] = set()
        self._using: dict[str, set[str]] = {}  # the api_ids of who uses a cluster

    def apply(self, deploy: Sequence[Artifact], undeploy: Collection[str]) -> Applied:
        """Take artifacts in, anew or in another version, and others out, by api_id.

        Artifacts may come in any order: what they refer to is looked for in the whole change and
        in what is already there. One that cannot be served is refused and changes nothing. A
        shared sequence or endpoint is refused, too, where an API that is served would then no
        longer be. Taking out what is not there is no fault. The work is in proportion to the
        artifacts of the change, those that use them and the scopes that they share.
        """
        self._came, self._went = set(), set()
        touched: set[str] = set()
        for api_id in undeploy:
            touched |= self._take_out(api_id)
        refused: dict[str, str] = {}
        coming = {each.api_id for each in deploy}
        # What others need comes first, so that a whole change finds itself complete.
        for artifact in sorted(deploy, key=lambda each: DEPLOY_ORDER[each.identity.kind]):
            reason, scopes = self._take_in(artifact, coming)
            touched |= scopes
            if reason:
                refused[artifact.api_id] = reason
        return self._applied(refused, touched)

    def resources(self) -> Resources:
        """Everything that Envoy is to have now: the listener, the clusters, the scopes."""
        return Resources(
            {
                CLUSTER: dict(self._clusters),
                LISTENER: {self._listener.name: self._listener},
                SCOPE: dict(self._scopes),
            }
        )

    # Artifacts --------------------------------------------------------------------------------

    def _take_in(self, artifact: Artifact, coming: Collection[str]) -> tuple[str, set[str]]:
        """Why it is refused, if it is, and the scopes that it changes.

        Args:
            artifact: the one.
            coming: all of the change; what these make of it is theirs to be refused for.
        """
        found, needs = self._translate(artifact)
        if isinstance(found, Refusal):
            return str(found), set()
        before = self._held.get(artifact.api_id)
        self._put(_Held(artifact, found, needs))
        redone: list[_Held] = []
        for user in self._users_of(artifact, before) - {artifact.api_id, *coming}:
            held = self._held[user]
            again, their_needs = self._translate(held.artifact)
            if isinstance(again, Refusal):
                self._put_back(artifact, before)
                reason = f"{held.artifact.identity}, which uses it, would no longer be served:\n"
                return f"{reason}{again}", set()
            redone.append(_Held(held.artifact, again, their_needs))
        touched = self._serve(artifact.api_id, before, found)
        for held in redone:
            api_id = held.artifact.api_id
            touched |= self._serve(api_id, self._held[api_id], held.translated)
            self._put(held)
        return "", touched

    def _take_out(self, api_id: str) -> set[str]:
        held = self._held.pop(api_id, None)
        if held is None:
            return set()
        self._forget(held)
        return self._serve(api_id, held, Translated())

    def _translate(self, artifact: Artifact) -> tuple[Translated | Refusal, frozenset[Need]]:
        tenant = artifact.identity.tenant

        def shared(need: Need) -> Part | None:
            api_id = self._names.get((tenant, need))
            if api_id is None or api_id == artifact.api_id:
                return None
            parts = self._held[api_id].artifact.parts
            return next((part for part in parts if need in names_of(part)), None)

        return translate(artifact, shared, self.options)

    def _users_of(self, artifact: Artifact, before: _Held | None) -> set[str]:
        """Who refers to a name that the artifact has, or had."""
        every = [artifact, before.artifact] if before else [artifact]
        return {
            user
            for each in every
            for name in _names(each)
            for user in self._users.get((each.identity.tenant, name), ())
            if user in self._held
        }

    def _put(self, held: _Held) -> None:
        api_id, tenant = held.artifact.api_id, held.artifact.identity.tenant
        if before := self._held.get(api_id):
            self._forget(before)
        self._held[api_id] = held
        for name in _names(held.artifact):
            self._names[tenant, name] = api_id
        for need in held.needs:
            self._users.setdefault((tenant, need), set()).add(api_id)

    def _put_back(self, artifact: Artifact, before: _Held | None) -> None:
        if before is not None:
            self._put(before)
        else:
            self._forget(self._held.pop(artifact.api_id))

    def _forget(self, held: _Held) -> None:
        api_id, tenant = held.artifact.api_id, held.artifact.identity.tenant
        for name in _names(held.artifact):
            if self._names.get((tenant, name)) == api_id:
                del self._names[tenant, name]
        for need in held.needs:
            users = self._users.get((tenant, need), set())
            users.discard(api_id)
            if not users:
                self._users.pop((tenant, need), None)

    # Resources --------------------------------------------------------------------------------

    def _serve(self, api_id: str, before: _Held | None, now: Translated) -> set[str]:
        """Put what is served of an artifact in the place of what was; the scopes it stands in."""
        old = before.translated if before else Translated()
        for api in old.apis:
            self._apis.get(api.scope, {}).pop(api_id, None)
        for scope in {api.scope for api in now.apis}:
            mine = tuple(api for api in now.apis if api.scope == scope)
            self._apis.setdefault(scope, {})[api_id] = mine
        for name in old.clusters:
            self._using.get(name, set()).discard(api_id)
        for name, cluster in now.clusters.items():
            if name not in self._clusters:
                self._clusters[name] = cluster
                (self._went.discard if name in self._went else self._came.add)(name)
            self._using.setdefault(name, set()).add(api_id)
        for name in old.clusters:
            if not self._using.get(name):
                self._using.pop(name, None)
                if self._clusters.pop(name, None) is not None:
                    (self._came.discard if name in self._came else self._went.add)(name)
        return {api.scope for api in (*old.apis, *now.apis)}

    def _applied(self, refused: Mapping[str, str], touched: Iterable[str]) -> Applied:
        changed: dict[str, Message] = {}
        gone: set[str] = set()
        for scope in sorted(touched):
            members = self._apis.get(scope, {})
            if not members:
                self._apis.pop(scope, None)
                if self._scopes.pop(scope, None) is not None:
                    gone.add(scope)
                continue
            message = scope_of(scope, (api for apis in members.values() for api in apis))
            if self._scopes.get(scope) != message:
                self._scopes[scope] = changed[scope] = message
        clusters = {name: self._clusters[name] for name in sorted(self._came)}
        owners = {(SCOPE, scope): frozenset(self._apis[scope]) for scope in changed}
        owners |= {(CLUSTER, name): frozenset(self._using[name]) for name in clusters}
        return Applied(
            refused=refused,
            changed=Resources({CLUSTER: clusters, SCOPE: changed}),
            removed={
                CLUSTER: frozenset(self._went),
                SCOPE: frozenset(gone),
            },
            owners=owners,
        )


_DIGITS: Final = 16  # of a digest in a name


def scope_of(scope: str, apis: Iterable[Served]) -> Message:
    """The scope of these APIs, which share the first step of their context.

    Its RouteConfiguration is called after what is in it: Envoy takes one that it has rejected a
    part of before for the one that it has, if it comes under the same name.
    """
    routes = route_pb2.RouteConfiguration()
    routes.max_direct_response_body_size_bytes.value = DIRECT_MAX_BYTES
    routes.request_headers_to_remove.append(SCOPE_HEADER)
    host = routes.virtual_hosts.add(name="any", domains=["*"])
    for api in sorted(apis, key=lambda each: (-len(each.context), each.context)):
        host.routes.extend(api.routes)
    digest = hashlib.sha256(routes.SerializeToString(deterministic=True)).hexdigest()
    routes.name = f"{scope}@{digest[:_DIGITS]}"
    message = scoped_route_pb2.ScopedRouteConfiguration(name=scope, route_configuration=routes)
    message.key.fragments.add(string_key=scope)
    return message


def _names(artifact: Artifact) -> list[Need]:
    """What others may call its parts."""
    return [need for part in artifact.parts if part.role != "api" for need in names_of(part)]
