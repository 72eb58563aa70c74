"""The readiness of a core by grpc.health.v1, with any gRPC server's answers."""

from __future__ import annotations

import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.clients.python.conftest import Servers


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (health_pb2.HealthCheckResponse.SERVING, ""),
        (health_pb2.HealthCheckResponse.NOT_SERVING, "is not ready"),
        (health_pb2.HealthCheckResponse.UNKNOWN, "is not ready"),
    ],
)
async def test_a_server_says_whether_it_serves(servers: Servers, status: int, problem: str) -> None:
    servicer = health.aio.HealthServicer()
    await servicer.set("", status)
    await servers.start(lambda server: health_pb2_grpc.add_HealthServicer_to_server(servicer, server))
    link = await servers.link()
    answer = await link.why_not_serving()
    assert problem in answer
    assert bool(problem) == bool(answer)


async def test_a_server_that_is_away_cannot_be_reached(servers: Servers) -> None:
    link = await servers.link()
    assert "cannot be reached" in await link.why_not_serving()
