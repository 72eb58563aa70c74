"""Unknown accounts take the same time and get the same answer as known ones; guessing is stopped, the owner is not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from restante.errors import AuthenticationFailed, InvalidArgument, StoreBusy, TooManyAttempts, WeakPassword
from restante.v1.session_pb2 import Scope
from restante_server.accounts import lifecycle
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.directory import accounts, credentials
from restante_server.directory.credentials import Passwords
from restante_server.directory.secret import Secret
from restante_server.directory.service import Directory
from tests.server.directory.material import HASHES, NOW, SECOND, SETTINGS

API = Scope.SCOPE_API


async def login(directory: Directory, name: str, password: str, address: str = "192.0.2.1", now: int = NOW) -> int:
    state = await directory.logins.prove(name, Secret(password), API, address, now)
    return state.account_id


async def refusal(directory: Directory, name: str, password: str) -> tuple[str, str, dict[str, str], int]:
    """(reason, text, metadata, hashes verified) of a failed login."""
    before = directory.passwords.proofs
    with pytest.raises(AuthenticationFailed) as refused:
        await login(directory, name, password)
    return refused.value.reason, refused.value.detail, refused.value.metadata, directory.passwords.proofs - before


async def test_the_right_password_logs_in_whatever_the_spelling_of_the_name(directory: Directory) -> None:
    assert await login(directory, "alice@example.test", "alice-demo") == await login(
        directory, "ALICE@Example.Test", "alice-demo"
    )


async def test_an_unknown_name_costs_and_answers_like_a_wrong_password(directory: Directory) -> None:
    wrong = await refusal(directory, "alice@example.test", "not it at all")
    assert wrong[3] == 1
    assert await refusal(directory, "nobody@example.test", "not it at all") == wrong
    assert await refusal(directory, "no address", "not it at all") == wrong
    assert await refusal(directory, "alice@elsewhere.example", "not it at all") == wrong


async def test_a_disabled_account_costs_and_answers_like_a_wrong_password(directory: Directory) -> None:
    wrong = await refusal(directory, "alice@example.test", "not it at all")
    edit = accounts.Edit(enabled=False)
    await directory.db.write(Write(lambda tx: lifecycle.change(tx, "bob@example.test", edit)))
    assert await refusal(directory, "bob@example.test", "bob-demo") == wrong


async def test_equal_guesses_at_one_time_cost_the_same_for_known_and_unknown_names(directory: Directory) -> None:
    costs, guess, passwords = [], Secret("not it at all"), directory.passwords
    for name in ("alice@example.test", "nobody@example.test"):
        stored, before = await directory.db.read(credentials.find, name), passwords.proofs
        await asyncio.gather(*(passwords.prove(name, stored, guess, lambda: None) for _ in range(3)))
        costs.append(passwords.proofs - before)
    assert costs == [1, 1]


async def test_a_proven_password_is_remembered_and_a_wrong_one_is_not(directory: Directory) -> None:
    for _ in range(3):
        await login(directory, "alice@example.test", "alice-demo")
    assert directory.passwords.proofs == 1
    for _ in range(2):
        await refusal(directory, "alice@example.test", "not it at all")
    assert directory.passwords.proofs == 3


async def test_a_changed_password_is_not_remembered(directory: Directory) -> None:
    account_id = await login(directory, "alice@example.test", "alice-demo")
    verifier = await directory.passwords.hash(Secret("another word"))
    await directory.db.write(Write(lambda tx: accounts.set_password(tx, account_id, verifier)))
    with pytest.raises(AuthenticationFailed):
        await login(directory, "alice@example.test", "alice-demo")
    assert await login(directory, "alice@example.test", "another word") == account_id


async def test_guessing_is_stopped_without_a_hash_even_for_the_right_password(directory: Directory) -> None:
    for number in range(SETTINGS.throttle.free_failures):
        await refusal(directory, "alice@example.test", f"guess {number}")
    before = directory.passwords.proofs
    with pytest.raises(TooManyAttempts) as stopped:
        await login(directory, "alice@example.test", "alice-demo")
    assert stopped.value.retry_seconds == 1
    assert directory.passwords.proofs == before
    await login(directory, "alice@example.test", "alice-demo", address="198.51.100.7")  # the owner, elsewhere
    await login(directory, "alice@example.test", "alice-demo", now=NOW + 2 * SECOND)


async def test_guesses_on_unknown_names_are_stopped_alike(directory: Directory) -> None:
    for number in range(SETTINGS.throttle.free_failures):
        await refusal(directory, "nobody@example.test", f"guess {number}")
    with pytest.raises(TooManyAttempts):
        await login(directory, "nobody@example.test", "guess")


async def test_a_burst_of_guesses_is_stopped_when_the_first_have_failed(people: Database) -> None:
    settings = replace(SETTINGS, hashes=replace(HASHES, threads=1))
    directory = await Directory.open(people, settings)
    guesses = (login(directory, "alice@example.test", f"guess {number}") for number in range(30))
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    directory.close()
    assert directory.passwords.proofs <= settings.throttle.free_failures + 1
    assert sum(isinstance(outcome, TooManyAttempts) for outcome in outcomes) >= 24


async def test_another_core_sees_the_failures(directory: Directory) -> None:
    for number in range(SETTINGS.throttle.free_failures):
        await refusal(directory, "alice@example.test", f"guess {number}")
    other = await Directory.open(directory.db, SETTINGS)
    with pytest.raises(TooManyAttempts):
        await login(other, "alice@example.test", "alice-demo")
    other.close()


async def test_a_success_forgets_the_failures_of_that_account(directory: Directory) -> None:
    for number in range(SETTINGS.throttle.free_failures - 1):
        await refusal(directory, "alice@example.test", f"guess {number}")
    await login(directory, "alice@example.test", "alice-demo")
    for number in range(SETTINGS.throttle.free_failures - 1):  # as many again: with the first they would be too many
        await refusal(directory, "alice@example.test", f"slip {number}")
    await login(directory, "alice@example.test", "alice-demo")


async def test_a_hash_with_other_parameters_is_made_anew_when_proven(people: Database) -> None:
    dearer = replace(HASHES, passes=2)
    directory = await Directory.open(people, replace(SETTINGS, hashes=dearer))
    await login(directory, "alice@example.test", "alice-demo")
    stored = await people.read(credentials.find, "alice@example.test")
    directory.close()
    assert stored is not None
    assert stored.verifier.startswith("$argon2id$v=19$m=64,t=2,p=1$")
    assert stored.version == 1  # no session ends


async def test_too_many_waiting_logins_are_turned_away(people: Database) -> None:
    slow = replace(HASHES, memory_kib=8_192, passes=8, threads=1, max_waiting=2)  # slower than logins come
    directory = await Directory.open(people, replace(SETTINGS, hashes=slow))
    attempts = (login(directory, f"user{number}@example.test", "x", f"192.0.2.{number}") for number in range(20))
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    directory.close()
    assert any(isinstance(outcome, StoreBusy) for outcome in outcomes)
    assert all(isinstance(outcome, (StoreBusy, AuthenticationFailed)) for outcome in outcomes)


@pytest.mark.parametrize(
    "password", ["short", "alice@example.test", "ALICE@example.test", "a" * 1_025, "bell\a" * 3, "Alice Liddell"]
)
def test_weak_passwords_are_refused(password: str) -> None:
    with pytest.raises(WeakPassword):
        credentials.check_strength(Secret(password), "alice@example.test", "alice", "Alice Liddell")


def test_eight_characters_are_enough() -> None:
    credentials.check_strength(Secret("eight ch"), "alice@example.test", "alice", "")


async def test_an_imported_hash_must_be_argon2id_and_affordable() -> None:
    passwords = Passwords(HASHES)
    good = await passwords.hash(Secret("some password"))
    await passwords.check_imported(good)
    salt_and_hash = good.split("$", 4)[4]
    for bad in (
        "",
        "$2b$12$abcdefghijklmnopqrstuv",
        good.replace("argon2id", "argon2i"),
        good.replace("v=19", "v=16"),
        f"$argon2id$v=19$m=4194304,t=2,p=1${salt_and_hash}",  # 4 GiB
        f"$argon2id$v=19$m=64,t=1000,p=1${salt_and_hash}",
        f"$argon2id$v=19$m=64,t=1,p=64${salt_and_hash}",
        f"$argon2id$v=19$m=8,t=1,p=8${salt_and_hash}",
        good + "\n",
        good[:-30],
    ):
        with pytest.raises(InvalidArgument):
            await passwords.check_imported(bad)
    passwords.close()


def test_a_password_is_the_same_from_every_keyboard_and_never_shown() -> None:
    assert Secret("pa\u00a0ss e\u0301").octets() == Secret("pa ss \u00e9").octets()  # RFC 8265 4.2.1
    assert "word" not in f"{Secret('word')!r} {Secret('word')}"
    assert Secret.from_octets(b"\xff\xfe").octets() == b"\xff\xfe"
