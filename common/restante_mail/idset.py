"""Sets of ids or UIDs as ascending ranges, expanded only by iteration. *Pure.*"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from restante_mail.ranges import Range, compress, contains, merge

__all__ = ["EMPTY", "IdSet", "Run"]

Run = Range


class IdSet:
    """An immutable set of positive integers, stored as ascending runs that neither overlap nor touch."""

    __slots__ = ("_length", "_runs")

    def __init__(self, runs: tuple[Run, ...]) -> None:
        """The runs must be ascending and disjoint. Callers use `of`, `from_ascending` or `from_runs`."""
        self._runs = runs
        self._length = sum(last - first + 1 for first, last in runs)

    @classmethod
    def of(cls, numbers: Iterable[int]) -> IdSet:
        """The set of these numbers, in any order, duplicates allowed."""
        return cls.from_ascending(sorted(set(numbers)))

    @classmethod
    def from_ascending(cls, numbers: Sequence[int]) -> IdSet:
        """The set of these strictly ascending numbers. A sequence without gaps takes constant time."""
        if not numbers:
            return EMPTY
        if numbers[-1] - numbers[0] + 1 == len(numbers):
            return cls(((numbers[0], numbers[-1]),))
        return cls(tuple(compress(numbers)))

    @classmethod
    def from_runs(cls, runs: Iterable[Run]) -> IdSet:
        """The set of these runs, in any order, overlaps allowed. Raises ValueError for a run below 1 or reversed."""
        given = list(runs)
        for first, last in given:
            if first < 1 or last < first:
                raise ValueError(f"{first}:{last} is not a run of ids")
        return cls(tuple(merge(given))) if given else EMPTY

    def ranges(self) -> tuple[Run, ...]:
        """The runs, ascending."""
        return self._runs

    @property
    def first(self) -> int:
        """The lowest number. Raises IndexError for an empty set."""
        return self._runs[0][0]

    @property
    def last(self) -> int:
        """The highest number. Raises IndexError for an empty set."""
        return self._runs[-1][1]

    def __len__(self) -> int:
        return self._length

    def __bool__(self) -> bool:
        return bool(self._runs)

    def __iter__(self) -> Iterator[int]:
        for first, last in self._runs:
            yield from range(first, last + 1)

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and contains(self._runs, number)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdSet) and self._runs == other._runs

    def __hash__(self) -> int:
        return hash(self._runs)

    def __repr__(self) -> str:
        return f"IdSet({','.join(str(a) if a == b else f'{a}:{b}' for a, b in self._runs)})"

    def union(self, other: IdSet) -> IdSet:
        """The numbers in either set."""
        if not self._runs or not other._runs:
            return self if self._runs else other
        return IdSet.from_runs((*self._runs, *other._runs))

    def intersect(self, other: IdSet) -> IdSet:
        """The numbers in both sets."""
        found: list[Run] = []
        at = 0
        theirs = other._runs
        for first, last in self._runs:
            while at < len(theirs) and theirs[at][1] < first:
                at += 1
            look = at
            while look < len(theirs) and theirs[look][0] <= last:
                found.append((max(first, theirs[look][0]), min(last, theirs[look][1])))
                look += 1
            at = max(at, look - 1)
        return IdSet(tuple(found)) if found else EMPTY

    def pack(self) -> bytes:
        """The octets for `unpack`: the gap before each run and its length minus one, as base-128 integers with the low
        digits first. About two octets for each run."""
        packed = bytearray()
        end = 0
        for first, last in self._runs:
            for number in (first - end, last - first):
                while number > 0x7F:
                    packed.append(number & 0x7F | 0x80)
                    number >>= 7
                packed.append(number)
            end = last
        return bytes(packed)

    @classmethod
    def unpack(cls, packed: bytes) -> IdSet:
        """The set of packed octets. Raises ValueError if they end within a run."""
        numbers: list[int] = []
        value = shift = 0
        for octet in packed:
            value |= (octet & 0x7F) << shift
            if octet & 0x80:
                shift += 7
            else:
                numbers.append(value)
                value = shift = 0
        if shift or len(numbers) % 2:
            raise ValueError("the packed set ends within a run")
        runs: list[Run] = []
        end = 0
        for at in range(0, len(numbers), 2):
            first = end + numbers[at]
            end = first + numbers[at + 1]
            runs.append((first, end))
        return cls(tuple(runs)) if runs else EMPTY


EMPTY = IdSet(())
