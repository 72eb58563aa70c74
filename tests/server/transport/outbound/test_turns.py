"""The order of leases: lanes, destinations and senders in turn."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_server.transport.outbound.turns import REMEMBERED, Candidate, Turns


def mail(text: str) -> list[Candidate]:
    """Candidates from words "destination/sender", the oldest first."""
    words = [word.split("/") for word in text.split()]
    return [Candidate(at, at, destination, int(sender)) for at, (destination, sender) in enumerate(words)]


def lanes(chosen: list[Candidate]) -> str:
    return " ".join(f"{one.destination}/{one.sender}" for one in chosen)


@pytest.mark.parametrize(
    ("waiting", "room", "chosen"),
    [
        ("", 5, ""),
        ("a/1 a/1 b/1", 2, "a/1 b/1"),
        ("a/1 a/1 a/1 a/2", 2, "a/1 a/2"),
        ("a/1 b/1 c/1 d/1 e/2", 2, "a/1 e/2"),  # a sender with many destinations
        ("a/1 a/2 a/3 a/4 b/1", 3, "a/1 a/2 b/1"),  # a destination with many senders
        ("a/1 a/1 a/2 a/2 b/2", 3, "a/1 a/2 b/2"),
        ("a/1 a/1 a/1 a/1", 2, "a/1 a/1"),
        ("a/1 a/1 a/1 a/1", 4, "a/1 a/1 a/1"),  # the last is left for another destination
        ("a/1 b/1 c/1 d/1 e/1 f/1 g/1 h/1", 8, "a/1 b/1 c/1 d/1 e/1 f/1 g/1"),  # and for another sender
        ("a/1 b/2 c/3 d/4", 4, "a/1 b/2 c/3 d/4"),
    ],
)
def test_lanes_take_turns(waiting: str, room: int, chosen: str) -> None:
    assert lanes(Turns(room).choose(mail(waiting))) == chosen


def test_leases_held_count_as_turns() -> None:
    turns = Turns(20)
    for lease_id in range(4):
        turns.give(lease_id, "a", 1)
    assert lanes(turns.choose(mail("a/1 a/1 b/2 b/2 b/2"))[:3]) == "b/2 b/2 b/2"
    turns.keep({})
    assert lanes(turns.choose(mail("a/1 a/1 b/2 b/2 b/2"))[:3]) == "b/2 a/1 b/2"  # b was never served


@pytest.mark.parametrize("flood", ["a/1", "b/2", "a/2"])
def test_one_lease_at_a_time_is_in_turn_too(flood: str) -> None:
    """A relay with one lease serves a flood and a single message alternately."""
    turns, waiting = Turns(1), mail(" ".join([flood] * 50) + " b/1")
    served = []
    for lease_id in range(3):
        (one,) = turns.choose(waiting)
        waiting.remove(one)
        turns.give(lease_id, one.destination, one.sender)
        turns.keep({})
        served.append(f"{one.destination}/{one.sender}")
    assert "b/1" in served[:2]


def test_dead_destinations_leave_room() -> None:
    """However many destinations answer nothing, another one gets a lease at once."""
    turns, lease_id = Turns(100), 0
    for number in range(5):
        flood = [Candidate(at, at, f"dead{number}", number) for at in range(500)]
        while chosen := turns.choose(flood):
            for one in chosen:
                lease_id += 1
                turns.give(lease_id, one.destination, one.sender)
        live = turns.choose([*flood, Candidate(10_000, 10_000, "live", 99)])
        assert "live" in {one.destination for one in live}


def test_ended_leases_are_counted_until_the_next_choice() -> None:
    turns = Turns(10)
    for lease_id in range(3):
        turns.give(lease_id, "a", 1)
    turns.keep({0, 7})
    assert (turns.ended, turns.held, turns.room) == (2, frozenset({0}), 9)
    turns.choose([])
    assert turns.ended == 0


def test_the_memory_of_turns_is_bounded() -> None:
    turns = Turns(1)
    for number in range(REMEMBERED + 10):
        turns.give(number, f"d{number}", number)
        turns.keep({})
    assert turns._destinations.last("d9") == 0
    assert turns._destinations.last("d10") == 11


candidates = st.lists(
    st.builds(
        Candidate,
        st.integers(0, 50),
        st.integers(0, 30),
        st.sampled_from("abcde"),
        st.integers(0, 4),
    ),
    max_size=60,
)


@given(candidates, st.integers(1, 40), st.integers(0, 1 << 30))
def test_the_choice_does_not_depend_on_the_order_of_candidates(found: list[Candidate], room: int, seed: int) -> None:
    named = {(one.transport_id, one.destination): one for one in found}
    shuffled = list(named.values())
    random.Random(seed).shuffle(shuffled)
    chosen = Turns(room).choose(shuffled)
    assert chosen == Turns(room).choose(list(named.values()))
    assert len(chosen) == len(set(chosen)) <= room
