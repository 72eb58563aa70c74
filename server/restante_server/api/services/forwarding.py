"""AdminService: the secret of the rewritten reverse-paths of forwarded mail."""

from __future__ import annotations

from sqlalchemy import Connection

from restante.v1 import forwarding_pb2 as v1
from restante.v1 import methods
from restante_server.api.engine import access
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.db.clock import now_microseconds
from restante_server.transport import forwarding

handlers = Handlers()


@handlers.write(methods.REPLACE_FORWARDING_SECRET, rule=access.administrators)
def replace_forwarding_secret(
    tx: Connection, call: Call, request: v1.ReplaceForwardingSecretRequest
) -> v1.ReplaceForwardingSecretResponse:
    """See AdminService.ReplaceForwardingSecret."""
    count = forwarding.replace_secret(tx, now_microseconds(tx), revoke_earlier=request.revoke_earlier)
    return v1.ReplaceForwardingSecretResponse(secret_count=count)
