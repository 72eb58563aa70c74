"""A backup of a store during writes, and its restoration."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, delete, make_url, select, update

from restante_mail.authentication.dkim.verify import Verifier
from restante_mail.authentication.results import Result
from restante_mail.idset import IdSet
from restante_server.db import migrate, schema
from restante_server.db.clock import now_microseconds
from restante_server.db.engine import Database, open_backend, open_database
from restante_server.db.errors import NoSealingKey
from restante_server.db.operation import Write
from restante_server.directory import check as directory_check
from restante_server.directory import domain_keys, domains, keys, rights, signing_keys
from restante_server.directory.domain_keys import DomainKey, NewKey
from restante_server.directory.keys import KeyRing, NotSealed
from restante_server.directory.service import Directory
from restante_server.directory.settings import AuthenticationSettings
from restante_server.directory.signing_keys import Algorithm
from restante_server.opening import create_store
from restante_server.store import contents, folders, mailboxes, messages
from restante_server.store.check import check
from restante_server.store.messages import NewMessage
from restante_server.store.selection import Selection
from restante_server.store.staging import Contents, ContentSettings, Form
from restante_server.transport.outbound.signatures import Keys as SigningKeys
from restante_server.transport.outbound.signatures import dkim
from restante_server.upkeep import backup, digests, restore
from restante_server.upkeep.backup_files import DIGEST_OCTETS, BackupFailed, digest
from restante_server.upkeep.collector import PAUSE_MICROSECONDS, Collector, pause_collection
from tests.harness.memory_dns import memory_dns
from tests.harness.postgres import PostgresServer
from tests.server.store.material import erase

NOW = 1_700_000_000_000_000
INLINE_OCTETS = 500


@pytest.fixture
def database_url(database_url: str) -> str:
    """The URL of a store that is stamped with the latest schema number."""
    backend = open_backend(database_url)
    with backend.writer() as tx, tx.begin():
        command.stamp(migrate.config(tx), "head")
    backend.close()
    return database_url


@pytest.fixture
def staging(database: Database, tmp_path: Path) -> Contents:
    directory = tmp_path / "contents"
    directory.mkdir()
    return Contents(database, ContentSettings(directory, inline_octets=INLINE_OCTETS, reserve_octets=0))


async def fill(database: Database, staging: Contents, count: int) -> int:
    """A mailbox with messages, every second one in a file; returns its id."""

    def make(tx: Connection) -> int:
        create_store(tx, NOW)
        return mailboxes.create(tx, NOW)

    mailbox_id: int = await database.write(Write(make))
    for number in range(count):
        await add(database, staging, mailbox_id, number)
    return mailbox_id


async def add(database: Database, staging: Contents, mailbox_id: int, number: int) -> None:
    body = b"x" * (10 if number % 2 else 2 * INLINE_OCTETS)
    staged = await staging.stage(b"Subject: %d\r\n\r\n" % number + body + b"\r\n", Form.MAKE_CANONICAL)
    assert staged.facts is not None
    facts = staged.facts

    def run(tx: Connection) -> None:
        content_id = staged.insert(tx, NOW)
        new = NewMessage(content_id, staged.size_octets, facts, b"", 0, (), NOW, 0)
        place = rights.system(mailbox_id)
        messages.add(tx, folders.inbox(tx, place), [new])

    await database.write(Write(run, mailboxes=frozenset({mailbox_id})))


@pytest.fixture
def elsewhere(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The target of a restoration: a database without tables."""
    if dialect == "sqlite":
        yield f"sqlite:///{tmp_path / 'restored' / 'store.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.database() as url:
            yield url


def facts_of(url: str) -> tuple[int, int, set[int], int]:
    """(epoch, number of messages, UIDVALIDITYs, next UIDVALIDITY) of a store."""
    engine = create_engine(make_url(url))
    try:
        with engine.connect() as tx:
            every = {"across_mailboxes": True}
            validities = set(tx.scalars(select(schema.folder.c.uid_validity).execution_options(**every)))
            count = len(tx.scalars(select(schema.message.c.message_id).execution_options(**every)).all())
            store = tx.execute(select(schema.store.c.epoch, schema.store.c.uid_validity_next)).one()
            return store.epoch, count, validities, store.uid_validity_next
    finally:
        engine.dispose()


async def test_what_was_there_comes_back_and_clients_begin_anew(
    database: Database, database_url: str, staging: Contents, elsewhere: str, tmp_path: Path
) -> None:
    mailbox_id = await fill(database, staging, 6)
    epoch, _, validities, _ = facts_of(database_url)
    target = tmp_path / "backup"
    told: list[tuple[int, int]] = []
    writing = asyncio.create_task(
        asyncio.to_thread(backup.write, database_url, staging.directory, target, NOW, lambda *a: told.append(a))
    )
    for number in range(6, 12):  # while it runs
        await add(database, staging, mailbox_id, number)
    await writing
    assert told
    found = await asyncio.to_thread(restore.restore, target, elsewhere, tmp_path / "restored contents")
    assert found == []
    restored_epoch, count, restored_validities, following = facts_of(elsewhere)
    assert 6 <= count <= 12
    assert restored_epoch == epoch + 1
    assert min(restored_validities) > max(validities) + restore.SKIPPED  # the store was changed after the backup
    assert following > max(restored_validities)


LETTER = b"From: Alice <alice@example.test>\r\nSubject: Hello\r\n\r\nHi\r\n"


async def make_keys(database: Database) -> dict[str, bytes]:
    """Keys of both algorithms for example.test, sealed anew once; returns their DNS records by name."""

    def make(tx: Connection) -> list[DomainKey]:
        create_store(tx, NOW)
        domains.create(tx, NOW, "example.test")
        pairs = [NewKey(signing_keys.generate(algorithm), "") for algorithm in Algorithm]
        made = domain_keys.create(tx, KeyRing(keys.load(tx)), NOW, "example.test", pairs)
        before = KeyRing(keys.load(tx))
        keys.rotate(tx, NOW + 40 * keys.DAY, 30)
        domain_keys.reseal(tx, before, KeyRing(keys.load(tx)))
        return made

    return {key.record_name: key.record_text.encode() for key in await database.write(Write(make))}


async def results_of_signing(database: Database, records: dict[str, bytes]) -> list[tuple[Result, str]]:
    """The results, by these DNS records, of a letter that the store's keys sign."""
    opened = await database.read(lambda tx: SigningKeys().of(tx, "example.test"))
    method = dkim(opened)
    assert method is not None
    signing = method.begin(datetime.now(UTC))
    signing.feed(LETTER)
    verifier = Verifier()
    verifier.feed(signing.finish() + LETTER)
    verifier.finish()
    found = await verifier.results(
        memory_dns({name: {"TXT": text} for name, text in records.items()}), datetime.now(UTC)
    )
    return [(one.result, one.algorithm) for one in found]


BOTH = {(Result.PASS, "rsa-sha256"), (Result.PASS, "ed25519-sha256")}


async def test_a_restored_store_signs_with_the_same_keys(
    database: Database, database_url: str, staging: Contents, elsewhere: str, tmp_path: Path
) -> None:
    records = await make_keys(database)
    assert set(await results_of_signing(database, records)) == BOTH
    backup.write(database_url, staging.directory, tmp_path / "backup", NOW, lambda *_: None)
    assert restore.restore(tmp_path / "backup", elsewhere, tmp_path / "restored contents") == []
    restored = open_database(elsewhere)
    assert set(await results_of_signing(restored, records)) == BOTH
    await restored.close()


@pytest.mark.parametrize("other", [False, True])
async def test_keys_that_no_sealing_key_opens_are_found_and_nothing_is_lost(
    database: Database, caplog: pytest.LogCaptureFixture, other: bool
) -> None:
    await make_keys(database)

    def lose(tx: Connection) -> None:
        tx.execute(delete(schema.sealing_key))
        if other:
            keys.create(tx, NOW)

    await database.write(Write(lose))
    found = await database.read(directory_check.check)
    if not other:
        assert found == [keys.NONE]
        with pytest.raises(NoSealingKey, match="restore a backup"):
            await Directory.open(database, AuthenticationSettings())
    else:
        assert len(found) == 2
        assert all("_domainkey.example.test" in each and "sealed" in each for each in found)
        with pytest.raises(NotSealed, match=r"_domainkey\.example\.test"):
            await database.read(lambda tx: SigningKeys().of(tx, "example.test"))
        sealed = await database.read(domain_keys.with_private_part)
        await database.write(Write(reseal))
        assert await database.read(domain_keys.with_private_part) == sealed  # for the day when the key is found
        assert caplog.text.count("create another key for the domain") == 2


def reseal(tx: Connection) -> None:
    ring = KeyRing(keys.load(tx))
    domain_keys.reseal(tx, ring, ring)


async def test_ids_given_out_after_the_backup_are_not_given_again(
    database: Database, database_url: str, staging: Contents, elsewhere: str, tmp_path: Path
) -> None:
    await fill(database, staging, 1)
    target = tmp_path / "backup"
    backup.write(database_url, staging.directory, target, NOW, lambda *_: None)
    later: list[int] = [await database.write(Write(lambda tx: mailboxes.create(tx, NOW))) for _ in range(3)]
    assert restore.restore(target, elsewhere, tmp_path / "restored contents") == []
    restored = open_database(elsewhere)
    assert await restored.write(Write(lambda tx: mailboxes.create(tx, NOW))) > max(later)
    await restored.close()


async def test_a_restoration_that_fails_leaves_no_store_and_can_be_repeated(
    database: Database,
    database_url: str,
    staging: Contents,
    elsewhere: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await fill(database, staging, 4)
    target, restored = tmp_path / "backup", tmp_path / "restored contents"
    backup.write(database_url, staging.directory, target, NOW, lambda *_: None)
    with monkeypatch.context() as broken:
        broken.setattr(restore, "begin_again", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            restore.restore(target, elsewhere, restored)
    url = make_url(elsewhere)
    if url.get_backend_name() == "sqlite":
        assert not Path(str(url.database)).exists()
    else:
        engine = create_engine(url)
        with engine.connect() as tx:
            assert tx.execute(select(schema.store.c.epoch)).first() is None
        engine.dispose()
    assert not any(restored.iterdir())
    assert restore.restore(target, elsewhere, restored) == []
    assert facts_of(elsewhere)[1] == 4


async def test_restored_contents_are_durable_before_the_store_names_them(
    database: Database,
    database_url: str,
    staging: Contents,
    elsewhere: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await fill(database, staging, 4)
    target, restored = tmp_path / "backup", tmp_path / "restored contents"
    backup.write(database_url, staging.directory, target, NOW, lambda *_: None)
    durable: list[Path] = []
    monkeypatch.setattr(restore, "sync", durable.append)
    monkeypatch.setattr(restore, "begin_again", lambda _: durable.append(Path("rows")))
    restore.restore(target, elsewhere, restored)
    first = set(durable[: durable.index(Path("rows"))])
    assert any(path.is_file() for path in first)
    assert first == {restored, *restored.rglob("*")}


async def test_a_damaged_database_is_not_restored(
    database: Database, database_url: str, staging: Contents, elsewhere: str, tmp_path: Path
) -> None:
    await fill(database, staging, 1)
    target = tmp_path / "backup"
    backup.write(database_url, staging.directory, target, NOW, lambda *_: None)
    path = next(path for path in (target / "store.db", target / "tables/message.copy") if path.exists())
    octets = bytearray(path.read_bytes())
    octets[-1] ^= 1
    path.write_bytes(octets)
    with pytest.raises(BackupFailed, match="damaged"):
        restore.restore(target, elsewhere, tmp_path / "restored contents")


async def test_a_backup_that_fails_leaves_its_directory_empty(
    database: Database, database_url: str, staging: Contents, tmp_path: Path
) -> None:
    await fill(database, staging, 1)
    target = tmp_path / "backup"
    for path in staging.directory.rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(FileNotFoundError):
        backup.write(database_url, staging.directory, target, NOW, lambda *_: None)
    assert not any(target.iterdir())


def test_a_digest_stops_within_a_file_when_its_step_fails(tmp_path: Path) -> None:
    large, steps = tmp_path / "large", list[int]()
    large.write_bytes(b"x" * (3 * DIGEST_OCTETS + 1))

    def step() -> None:
        steps.append(1)
        if len(steps) == 2:
            raise BackupFailed("it was cancelled")

    with pytest.raises(BackupFailed):
        digest(large, step)
    assert len(steps) == 2
    assert digest(large) == hashlib.sha256(large.read_bytes()).hexdigest()
    assert digest(tmp_path / "absent") == ""


async def test_a_backup_is_cancelled_within_the_digest_of_its_database(
    database: Database, database_url: str, staging: Contents, tmp_path: Path
) -> None:
    await fill(database, staging, 1)
    whole = list[bool]()
    target = tmp_path / "whole"

    def progress(done: int, total: int) -> None:
        whole.append(done == total and not (target / "manifest.json").exists())

    await asyncio.to_thread(backup.write, database_url, staging.directory, target, NOW, progress)
    copied = 2 if "sqlite" in database_url else 1  # SQLite's own copy says so, and the copy of the one file
    assert whole.count(True) > copied


async def test_no_collector_of_the_store_removes_anything_while_one_pauses_all(
    database: Database, staging: Contents, database_url: str, tmp_path: Path
) -> None:
    mailbox_id = await fill(database, staging, 1)
    files = [path for path in staging.directory.rglob("*") if path.is_file()]
    everything = Selection(None, IdSet(((1, 1),)))
    ours, theirs = Collector(database, staging.directory), Collector(database, staging.directory)
    async with ours.paused():
        gone = Write(lambda tx: erase(tx, rights.system(mailbox_id), everything))
        await database.write(gone)
        assert await theirs.collect(NOW) == await ours.collect(NOW) == 0
        backup.write(database_url, staging.directory, tmp_path / "backup", NOW, lambda *_: None)
        assert all(path.exists() for path in files)
        assert await database.read(check) == []
    assert await theirs.collect(NOW) == 1
    assert not any(path.exists() for path in files)


async def test_a_pause_ends_with_its_time_when_nobody_ends_it(database: Database, staging: Contents) -> None:
    mailbox_id = await fill(database, staging, 1)
    await database.write(Write(lambda tx: pause_collection(tx, 7)))
    everything = Selection(None, IdSet(((1, 1),)))
    await database.write(Write(lambda tx: erase(tx, rights.system(mailbox_id), everything)))
    collector = Collector(database, staging.directory)
    assert await collector.collect(NOW) == 0
    later = await database.read(now_microseconds) + PAUSE_MICROSECONDS
    assert await collector.collect(later) == 1
    assert await database.read(check) == []


async def test_damage_is_found(
    database: Database, database_url: str, staging: Contents, elsewhere: str, tmp_path: Path
) -> None:
    await fill(database, staging, 4)
    target = tmp_path / "backup"
    backup.write(database_url, staging.directory, target, NOW, lambda *_: None)
    damaged, missing = sorted(path for path in (target / "contents").rglob("*") if path.is_file())
    damaged.write_bytes(damaged.read_bytes().replace(b"x", b"y", 1))
    missing.unlink()
    found = restore.restore(target, elsewhere, tmp_path / "restored contents")
    assert len(found) == 2
    assert any("do not match the stored digest" in finding for finding in found)
    assert any("the file cannot be read" in finding for finding in found)


async def test_damage_in_the_database_is_found(database: Database, staging: Contents) -> None:
    await fill(database, staging, 2)

    def damage(tx: Connection) -> None:
        tx.execute(update(schema.content_octets).values(octets=b"something else"))

    await database.write(Write(damage))
    last, compared, found = await database.read(digests.compare, staging.directory, 0, 100)
    assert (last, compared) == (2, 2)
    assert len(found) == 1
    assert await database.read(digests.live_contents) == 2
    assert await database.read(digests.compare, staging.directory, 2, 100) == (None, 0, [])
    assert len(await database.read(contents.load, [1, 2])) == 2


async def test_a_backup_that_is_not_whole_or_of_another_kind_is_refused(
    database: Database, database_url: str, staging: Contents, elsewhere: str, tmp_path: Path
) -> None:
    await fill(database, staging, 1)
    target = tmp_path / "backup"
    backup.write(database_url, staging.directory, target, NOW, lambda *_: None)
    with pytest.raises(BackupFailed, match="not empty"):
        backup.write(database_url, staging.directory, target, NOW, lambda *_: None)
    manifest = json.loads((target / "manifest.json").read_text())
    (target / "manifest.json").write_text(json.dumps(manifest | {"schema": "9999"}))
    with pytest.raises(BackupFailed, match="schema 9999"):
        restore.restore(target, elsewhere, tmp_path / "restored contents")
    (target / "manifest.json").unlink()
    with pytest.raises(BackupFailed, match="not a complete backup"):
        restore.restore(target, elsewhere, tmp_path / "restored contents")


async def test_a_store_that_is_there_is_never_overwritten(
    database: Database, database_url: str, staging: Contents, tmp_path: Path
) -> None:
    await fill(database, staging, 1)
    target = tmp_path / "backup"
    backup.write(database_url, staging.directory, target, NOW, lambda *_: None)
    with pytest.raises(BackupFailed):
        await asyncio.to_thread(restore.restore, target, database_url, tmp_path / "other contents")
