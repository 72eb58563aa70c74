"""A core's dispatcher over a store with a few accounts, and callers of every kind."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry

from restante.methods import Method
from restante.v1 import methods
from restante.v1.session_pb2 import AuthenticateRequest, AuthenticateResponse, ClientContext, Scope, Session
from restante.v1.sync_pb2 import SessionsEnded
from restante_process import config
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.core import Core
from restante_server.api.engine.dispatch import Dispatcher
from restante_server.api.engine.identity import Authenticator
from restante_server.api.engine.notify import Notifier
from restante_server.api.engine.observe import CallObserver
from restante_server.api.engine.registry import Registry
from restante_server.api.services.catalogue import SERVICES
from restante_server.db.engine import Database
from restante_server.directory.service import Directory
from restante_server.directory.settings import AuthenticationSettings
from restante_server.store.staging import Contents, ContentSettings
from tests.server.directory.material import SETTINGS, make_account, make_store

RPCS = Registry(SERVICES)
NATIVE = Caller(client_address="192.0.2.1", encrypted=True)
ADMIN = Caller(identity="admin", encrypted=True)


@dataclass
class Bench:
    """The parts of a core that these services need."""

    core: Core
    dispatcher: Dispatcher
    authenticator: Authenticator
    ended: list[SessionsEnded] = field(default_factory=list)  # announcements to gateways

    async def run(self, method: Method[Any, Any], request: Any, caller: Caller = NATIVE) -> Any:
        """Make one call through the dispatcher."""
        return await self.dispatcher.run(RPCS.unary[method.field], caller, request, time.monotonic() + 20)

    async def login(
        self, name: str, password: str, *, scope: int = 0, caller: Caller = NATIVE, client: ClientContext | None = None
    ) -> Session:
        """Log in by PLAIN and return the session."""
        request = AuthenticateRequest(
            mechanism="PLAIN", response=f"\0{name}\0{password}".encode(), scope=Scope.ValueType(scope), client=client
        )
        response = cast(AuthenticateResponse, await self.run(methods.AUTHENTICATE, request, caller))
        return response.session

    async def caller(self, session: Session, stream: Caller = NATIVE) -> Caller:
        """The caller with a session's token."""
        return await self.authenticator.session(session.session_token, stream)


async def make_bench(database: Database, settings: AuthenticationSettings = SETTINGS) -> Bench:
    """A store with alice (an administrator), bob and carol, and its core."""
    await make_store(database)
    await make_account(database, "alice@example.test", display_name="Alice Liddell", administrator=True)
    await make_account(database, "bob@example.test", display_name="Bob Builder")
    await make_account(database, "carol@example.test")
    return await open_bench(database, settings)


async def open_bench(database: Database, settings: AuthenticationSettings = SETTINGS) -> Bench:
    """A core over an existing store."""
    parts = await Directory.open(database, settings)
    notifier, authenticator = Notifier(database), Authenticator({"admin": "00"}, parts.sessions)
    absent = cast(Any, None)  # parts that these services do not touch
    core = Core(
        settings=config.Config(),
        db=database,
        epoch=1,
        contents=Contents(database, ContentSettings(Path("absent"))),  # tests of contents replace it
        directory=parts,
        transport=absent,
        notifier=notifier,
        authenticator=authenticator,
    )
    bench = Bench(core, Dispatcher(core, CallObserver(CollectorRegistry(), quiet=True)), authenticator)
    notifier.on_sessions_ended(bench.ended.append)
    return bench


def gateway(identity: str, **context: Any) -> tuple[Caller, ClientContext]:
    """A gateway's stream, and its context of a client."""
    stream = replace(NATIVE, identity=identity, client_address="")
    return stream, ClientContext(client_address="192.0.2.7", listener=identity, **context)
