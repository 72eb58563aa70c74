"""What a core tells of its database, in figures."""

from __future__ import annotations

from pathlib import Path

from restante.v1.admin_pb2 import CreateDomainRequest
from tests.server.api.served import request_id, served


async def test_writes_reads_and_what_waits_are_metrics(tmp_path: Path) -> None:
    async with served(tmp_path) as core:

        def value(name: str) -> float:
            found = core.process.registry.get_sample_value(f"restante_{name}")
            assert found is not None, name
            return found

        groups, operations, reads = map(
            value, ("write_group_seconds_count", "write_operations_total", "read_seconds_count")
        )
        request = CreateDomainRequest(name="example.org", request_id=request_id())
        await core.call("AdminService/CreateDomain", request, identity="admin")
        await core.core.db.read(lambda tx: None)
        assert value("write_group_seconds_count") > groups
        assert value("write_operations_total") > operations
        assert value("read_seconds_count") > reads
        assert value("write_replays_total") == 0
        assert value("waiting_writers") == value("queued_octets") == 0
