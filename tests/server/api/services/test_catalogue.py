"""The services of a core: every RPC of the contract has one handler, and every module of handlers is registered."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

from restante.v1 import methods
from restante.v1.mailbox_pb2 import ReleaseMaildropRequest
from restante.v1.types_pb2 import IdRange
from restante_server.api import services
from restante_server.api.engine.registry import Handlers, Registry
from restante_server.api.engine.server import SERVICES as CONTRACT
from restante_server.api.services import folders, sync
from restante_server.api.services.catalogue import SERVICES

BATCHES = {("BatchService", "Execute"), ("BatchService", "ExecuteOnce")}  # of the engine


def test_every_rpc_of_the_contract_has_a_handler() -> None:
    registry = Registry(SERVICES)
    served = {(handler.method.service, handler.method.name) for handler in registry.unary.values()}
    assert served | set(registry.streams) | BATCHES == {
        (service.name, method.name) for service in CONTRACT for method in service.methods
    }
    assert set(registry.unary) <= {known.field for known in methods.ALL}


def test_every_module_of_handlers_is_in_the_catalogue() -> None:
    found = [import_module(f"{services.__name__}.{module.name}") for module in pkgutil.iter_modules(services.__path__)]
    tables = [module.handlers for module in found if isinstance(getattr(module, "handlers", None), Handlers)]
    assert {id(table) for table in tables} == {id(table) for table in SERVICES}


@pytest.mark.parametrize("twice", [folders.handlers, sync.handlers], ids=["unary", "stream"])
def test_an_rpc_has_one_handler(twice: Handlers) -> None:
    copy = Handlers()
    copy.unary, copy.streams = twice.unary[:1], twice.streams[:1]
    other = Handlers()
    if copy.unary:
        other.write(copy.unary[0].method, rule=copy.unary[0].rule)(copy.unary[0].run)
    else:
        other.stream(copy.streams[0].service, copy.streams[0].name, rule=copy.streams[0].rule)(copy.streams[0].run)
    with pytest.raises(ValueError, match="two handlers"):
        Registry([copy, other])


def test_the_end_of_a_pop3_session_counts_its_messages_for_the_size_of_a_write() -> None:
    release = Registry(SERVICES).unary[methods.RELEASE_MAILDROP.field]
    seen, gone = [IdRange(first=1, last=900)], [IdRange(first=1, last=500), IdRange(first=502, last=601)]
    assert release.rows(ReleaseMaildropRequest(seen_uids=seen, deleted_uids=gone)) == 1_501
    assert release.rows(ReleaseMaildropRequest(deleted_uids=[IdRange(first=9, last=1)])) == 1  # it is refused later
