"""The files that a WSO2 pack brings along: part of a node's installation, never published.

They are known by their place, not by their content: packs of other versions, and operators who
edit an error message, change what is in them, and they remain the installation's.
"""

from typing import Final

from gatesync.artifacts.model import KINDS, SUPER_TENANT

__all__ = ["BASE_FILES", "is_base", "is_base_name"]

_CONFIGURATION: Final = frozenset({"registry.xml", "synapse.xml"})  # no artifacts, in any tenant

_SEQUENCES: Final = """
    _auth_failure_handler_ _backend_failure_handler_ _block_api_handler_ _build_
    _cors_request_handler_ _extension_fault_handler_ _graphql_failure_handler_
    _mcp_failure_handler_ _opa_policy_failure_handler_ _production_key_error_
    _resource_mismatch_handler_ _sandbox_key_error_ _threat_fault_ _throttle_out_handler_
    _token_fault_ dispatchSeq fault guardrail_fault main openai_error_response_formatter
    outDispatchSeq webhooksFaultSequence
"""

_INBOUND_ENDPOINTS: Final = """
    SecureWebSocketInboundEndpoint SecureWebhookServer WebSocketInboundEndpoint WebhookServer
"""

BASE_FILES: Final = frozenset(
    {
        *_CONFIGURATION,
        "api/_OpenService_.xml",
        *(f"sequences/{name}.xml" for name in _SEQUENCES.split()),
        *(f"inbound-endpoints/{name}.xml" for name in _INBOUND_ENDPOINTS.split()),
    }
)
"""The 29 files of an API-M gateway's `synapse-configs/default`, by their place in it."""

_ROLES: Final = {folder: kind for kind, folder in KINDS.items()}

# Synapse makes these local entries itself, when it starts.
_MADE_BY_SYNAPSE: Final = frozenset({("local-entry", "SERVER_HOST"), ("local-entry", "SERVER_IP")})

# Three files of the pack define something of another name than their own.
_NAMED_OTHERWISE: Final = {
    "sequences/_block_api_handler_.xml": "_api_blocked_sequence_",
    "sequences/_graphql_failure_handler_.xml": "_graphql_failure_handler",
    "inbound-endpoints/SecureWebSocketInboundEndpoint.xml": "SecureWebSocketEP",
}

_NAMES: Final = _MADE_BY_SYNAPSE | {
    (_ROLES[folder], _NAMED_OTHERWISE.get(f"{folder}/{file}", file.removesuffix(".xml")))
    for folder, slash, file in (path.partition("/") for path in BASE_FILES)
    if slash
}


def is_base_name(role: str, name: str) -> bool:
    """Whether every server has something of this role and name, in each of its tenants.

    A server gives a new tenant its own copies of the pack's sequences.
    """
    return (role, name) in _NAMES


def is_base(path: str, tenant: str) -> bool:
    """Whether the file at this place below `synapse-configs/default` is the installation's.

    Packs are laid down for the first tenant. Another tenant's `sequences/fault.xml` is its own,
    while `registry.xml` and `synapse.xml` configure the server whoever they stand with.
    """
    return path in (BASE_FILES if tenant == SUPER_TENANT else _CONFIGURATION)
