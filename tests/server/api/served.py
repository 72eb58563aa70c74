"""A whole core behind real listeners, in this process, with alice (an administrator), bob and carol."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import secrets
from collections.abc import AsyncIterator, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf import symbol_database
from google.protobuf.descriptor import MethodDescriptor

from restante import errors
from restante.link import CoreLink, OpenCarrier
from restante.target import ProcessIdentity, Target
from restante.v1 import methods
from restante.v1.admin_pb2 import CreateAccountRequest, CreateDomainRequest, UpdateAccountRequest
from restante.v1.batch_pb2 import ExecuteOnceRequest, Operation, OperationResult
from restante.v1.session_pb2 import AuthenticateRequest, ClientContext, Scope, Session
from restante_process import config, config_file
from restante_process.frames import SOCKET_NAME
from restante_server.api.engine.dispatch import Dispatcher
from restante_server.api.engine.registry import Registry
from restante_server.api.engine.server import SERVICES
from restante_server.api.services.catalogue import SERVICES as HANDLERS
from restante_server.app import CoreProcess
from restante_server.db import migrate
from tests.harness.execute_stream import ExecuteStream, FrameStream, GrpcStream

PEOPLE = ("alice", "bob", "carol")
DOMAIN = "example.test"
CONTRACT = {f"{service.name}/{method.name}": method for service in SERVICES for method in service.methods}
UNARY_FIELDS = {f"{known.service}/{known.name}": known.field for known in methods.ALL}
STREAMING = {f"{service}/{name}" for service, name in Registry(HANDLERS).streams}  # those that are served
_SYMBOLS = symbol_database.Default()


def request_id() -> bytes:
    """A fresh request id."""
    return secrets.token_bytes(16)


def request_type(rpc: str) -> Any:
    """The class of an RPC's request message."""
    return _SYMBOLS.GetSymbol(CONTRACT[rpc].input_type.full_name)


def token_metadata(token: bytes) -> tuple[tuple[str, str], ...]:
    """The metadata of a session's call."""
    return (("authorization", "Bearer " + base64.urlsafe_b64encode(token).decode()),) if token else ()


class Served:
    """A core, its sockets, and all kinds of calls to it."""

    def __init__(self, process: CoreProcess, directory: Path, authority: Authority) -> None:
        self.process, self.directory, self.authority = process, directory, authority
        self._channels: list[grpc.aio.Channel] = []

    @property
    def core(self) -> Any:
        return self.process.core

    @property
    def dispatcher(self) -> Dispatcher:
        return self.process.server.dispatcher

    @property
    def unix(self) -> str:
        return f"unix:{self.process.socket}"

    def secret(self, identity: str) -> str:
        return (self.directory / "secrets" / f"{identity}.secret").read_text().strip()

    def identity(self, name: str) -> tuple[tuple[str, str], ...]:
        """Metadata of a process identity on the Unix socket."""
        return (("restante-identity", name), ("restante-secret", self.secret(name))) if name else ()

    def channel(
        self, address: str = "", *, pair: tuple[bytes, bytes] | None = None, trust: bytes | None = None
    ) -> grpc.aio.Channel:
        """A connection: to the Unix socket, or to HOST:PORT by TLS, with a client certificate where given."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        if not address:
            made = grpc.aio.insecure_channel(self.unix, options=options)
        else:
            roots = trust if trust is not None else self.authority.certificate
            key, chain = pair if pair is not None else (None, None)
            made = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots, key, chain), options=options)
        self._channels.append(made)
        return made

    @property
    def tls_address(self) -> str:
        return f"localhost:{self.process.api_port}"

    @property
    def mutual_address(self) -> str:
        return f"localhost:{self.process.gateway_port}"

    async def link(self, identity: str = "", *, open_carrier: OpenCarrier | None = None) -> CoreLink:
        """The SDK's link over the Unix socket."""
        return await CoreLink.connect(
            Target(self.unix, ProcessIdentity(identity, self.secret(identity)) if identity else None),
            open_carrier=open_carrier,
        )

    async def execute_stream(self, binding: str, identity: str) -> ExecuteStream:
        """An Execute stream of a gateway, by "grpc" or in "frames"."""
        if binding == "frames":
            socket = self.process.socket.with_name(SOCKET_NAME)
            return await FrameStream.open(socket, dict(self.identity(identity)))
        return GrpcStream(self.stub("BatchService/Execute")(metadata=self.identity(identity)))

    async def session(
        self,
        name: str,
        scope: int = Scope.SCOPE_API,
        *,
        identity: str = "",
        password: str = "",
        channel: grpc.aio.Channel | None = None,
    ) -> Session:
        """A session of a user, of a native client or through a gateway."""
        request = AuthenticateRequest(
            mechanism="PLAIN",
            response=f"\0{name}@{DOMAIN}\0{password or name + '-demo'}".encode(),
            scope=Scope.ValueType(scope),
        )
        if identity:
            request.client.CopyFrom(ClientContext(client_address="192.0.2.9", listener=identity, tls=True))
        answer = await self.call("SessionService/Authenticate", request, identity=identity, channel=channel)
        session: Session = answer.session
        return session

    def stub(self, rpc: str, channel: grpc.aio.Channel | None = None) -> Any:
        """The callable of any RPC of the contract."""
        method = CONTRACT[rpc]
        return _multicallable(channel or self.channel(), method)

    async def call(
        self,
        rpc: str,
        request: Any,
        *,
        token: bytes = b"",
        identity: str = "",
        channel: grpc.aio.Channel | None = None,
        timeout: float = 20.0,
    ) -> Any:
        """Make a unary call. Raises the class of its reason."""
        metadata = (*self.identity(identity), *token_metadata(token))
        try:
            return await self.stub(rpc, channel or self._main())(request, metadata=metadata, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise errors.from_rpc_error(error) from None

    async def operate(
        self, *operations: Operation, identity: str = "", channel: grpc.aio.Channel | None = None
    ) -> list[OperationResult]:
        """Run a batch by ExecuteOnce."""
        request = ExecuteOnceRequest(operations=operations)
        answer = await self.call("BatchService/ExecuteOnce", request, identity=identity, channel=channel, timeout=30.0)
        return list(answer.results)

    def _main(self) -> grpc.aio.Channel:
        if not self._channels:
            self.channel()
        return self._channels[0]

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


def operation(rpc: str, request: Any, *, token: bytes = b"", operation_id: int = 1, **more: Any) -> Operation:
    """An operation with a request, for a batch."""
    made = Operation(operation_id=operation_id, session_token=token, **more)
    getattr(made, UNARY_FIELDS[rpc]).CopyFrom(request)
    return made


def _multicallable(channel: grpc.aio.Channel, method: MethodDescriptor) -> Any:
    kind = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[method.client_streaming, method.server_streaming]
    service = method.containing_service
    return kind(
        f"/{service.full_name}/{method.name}",
        request_serializer=_SYMBOLS.GetSymbol(method.input_type.full_name).SerializeToString,
        response_deserializer=_SYMBOLS.GetSymbol(method.output_type.full_name).FromString,
    )


class Authority:
    """A small certificate authority for a test."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(self._name, self._key.public_key(), authority=True)

    def pair(self, common_name: str, hosts: Iterable[str] = ()) -> tuple[bytes, bytes]:
        """(private key, certificate), both PEM; without a name the subject is empty."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
        chain = self._sign(x509.Name(names), key.public_key(), hosts=tuple(hosts))
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return pem, chain

    def _sign(self, name: x509.Name, key: Any, *, authority: bool = False, hosts: tuple[str, ...] = ()) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if hosts:
            alternatives = [x509.DNSName(host) for host in hosts]
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([*alternatives, address]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def settings(directory: Path, authority: Authority, **environment: str) -> config.Config:
    """A core's configuration: TLS and mutual TLS on free ports, cheap hashes. `environment` as in config_file.load."""
    key, chain = authority.pair("localhost", ("localhost",))
    (directory.parent / "key.pem").write_bytes(key)
    (directory.parent / "cert.pem").write_bytes(chain)
    (directory.parent / "ca.pem").write_bytes(authority.certificate)
    names = {"certificate": str(directory.parent / "cert.pem"), "key": str(directory.parent / "key.pem")}
    flags: dict[str, Any] = {
        "data": str(directory),
        "tls.certificates": [names],
        "tls.client_ca": str(directory.parent / "ca.pem"),
        **{f"core.{name}_port": 0 for name in ("api", "gateway") if f"CORE__{name.upper()}_PORT" not in environment},
        "core.drain_seconds": 3.0,
        "sessions.hash_memory_kib": 64,
        "sessions.hash_passes": 1,
        "store.reserve_octets": 1_000_000,
        "health.core": -1,
    }
    return config_file.load(None, {"RESTANTE_" + name: value for name, value in environment.items()}, flags)


@contextlib.asynccontextmanager
async def served(scratch: Path, **environment: str) -> AsyncIterator[Served]:
    """A core on an empty store in `scratch`, with its accounts."""
    directory, authority = scratch / "data", Authority()
    directory.mkdir(mode=0o700)
    chosen = settings(directory, authority, **environment)
    migrate.upgrade(chosen.store_url)
    async with CoreProcess.open(chosen) as process:
        made = Served(process, directory, authority)
        try:
            await _settle_people(made)
            yield made
        finally:
            await made.close()


async def _settle_people(core: Served) -> None:
    admin = partial(core.call, identity="admin")
    await admin("AdminService/CreateDomain", CreateDomainRequest(name=DOMAIN, request_id=request_id()))
    for name in PEOPLE:
        account = CreateAccountRequest(address=f"{name}@{DOMAIN}", password=f"{name}-demo", request_id=request_id())
        await admin("AdminService/CreateAccount", account)
    await admin("AdminService/UpdateAccount", UpdateAccountRequest(address=f"alice@{DOMAIN}", administrator=True))
