"""The reason why a server cannot be reached, in plain words: gRPC's text names neither the port nor the true cause."""

from __future__ import annotations

import asyncio
import socket
import ssl

import grpc

from restante import errors
from restante.target import Target

MISNAMED = (62, 64)  # OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
PROBE_SECONDS = 2.0  # for the connection and the TLS handshake, each


class ServerUnreachable(errors.UnknownReason):
    """No connection could be opened for a new session. `address` is the target's, `cause` the reason."""

    def __init__(self, address: str, cause: str) -> None:
        super().__init__(f"Cannot reach {address}: {cause}", grpc.StatusCode.UNAVAILABLE)
        self.address, self.cause = address, cause


async def explained(target: Target, error: errors.UnknownReason) -> ServerUnreachable:
    """The error to raise instead of gRPC's. Tries one connection to find the cause."""
    cause = await trouble(target)
    return ServerUnreachable(target.address, cause or " ".join(error.detail.split()))


async def trouble(target: Target) -> str:
    """The step that fails when a TLS connection is tried; empty when none fails now."""
    if target.address.startswith("unix:"):
        return await _socket_trouble(target.address.removeprefix("unix:"))
    host, port = target.host_and_port
    if not host or not port.isdecimal():
        return "the address is not HOST:PORT"
    context = ssl.create_default_context(
        cadata=None if target.root_certificates is None else target.root_certificates.decode("ascii", "replace")
    )
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, int(port))
    except TimeoutError:
        return f"no answer within {PROBE_SECONDS:g} seconds; check the address, and firewalls on the way"
    except socket.gaierror:
        return f"the host name {host} does not exist"
    except OSError as error:
        return _refusal(error)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await writer.start_tls(context, server_hostname=target.server_name or host)
        if writer.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
            return "the port speaks TLS but not HTTP/2; check that this is the port of the API"
    except TimeoutError:
        return "the port does not answer a TLS handshake; check that this is the port of the API"
    except ssl.SSLCertVerificationError as error:
        advice = (
            "use a host name of the certificate"
            if error.verify_code in MISNAMED
            else "give its certificate authority (`mail login --ca FILE`)"
        )
        return f"its certificate is not trusted ({error.verify_message.rstrip('.')}); {advice}"
    except ssl.SSLError as error:
        return f"the TLS handshake failed ({error.reason or error}); check that this is the port of the API"
    except OSError:
        return "the connection was closed during the TLS handshake; check that this is the port of the API"
    finally:
        writer.transport.abort()
    return ""


async def _socket_trouble(path: str) -> str:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_unix_connection(path)
    except TimeoutError:
        return f"no answer within {PROBE_SECONDS:g} seconds"
    except FileNotFoundError:
        return "the socket does not exist; start the core"
    except OSError as error:
        return _refusal(error)
    writer.transport.abort()
    return ""


def _refusal(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "the connection was refused; start the server, or check the port"
    return error.strerror or str(error)
