"""States of messages: each distinct pair of system flags and keywords once, with its encoded FLAGS. *Pure.*"""

from __future__ import annotations

from collections.abc import Callable

from restante_gateways.imap.grammar.flags import Flags, SystemFlag

_BASE = 32  # the first states have system flags only; their index is the sum of the flags


def _spell(flags: Flags, recent: bool) -> bytes:
    names = flags.names() + (["\\Recent"] if recent else [])
    return b"FLAGS (" + " ".join(names).encode("ascii") + b")"


_BASE_FLAGS = [Flags(SystemFlag(bits)) for bits in range(_BASE)]
_BASE_TEXTS = [_spell(flags, recent=False) for flags in _BASE_FLAGS]
_BASE_RECENT_TEXTS = [_spell(flags, recent=True) for flags in _BASE_FLAGS]


class StateTable:
    """The states in one folder, by index. All folders share the states without keywords.

    `flags[i]` is the state, `texts[i]` is `FLAGS (...)` for it, `recent_texts[i]` the same with `\\Recent`.
    """

    __slots__ = ("_by_flags", "_having", "flags", "keywords", "recent_texts", "texts")

    def __init__(self) -> None:
        self.flags, self.texts, self.recent_texts = _BASE_FLAGS, _BASE_TEXTS, _BASE_RECENT_TEXTS
        self._by_flags: dict[tuple[int, frozenset[str]], int] | None = None
        self.keywords: dict[str, str] = {}  # lower case to first spelling of every keyword seen
        self._having: dict[SystemFlag, tuple[int, frozenset[int]]] = {}  # length of the table then, states

    def __len__(self) -> int:
        return len(self.flags)

    def index(self, system: int, keywords: tuple[str, ...]) -> int:
        """The index of a state; a new state is added."""
        if not keywords:
            return system & (_BASE - 1)
        if self._by_flags is None:  # the first keyword: copy the shared lists for this folder
            self.flags, self.texts, self.recent_texts = self.flags[:], self.texts[:], self.recent_texts[:]
            self._by_flags = {}
        key = (system, frozenset(keyword.lower() for keyword in keywords))
        found = self._by_flags.get(key)
        if found is None:
            found = self._by_flags[key] = len(self.flags)
            spelled = tuple(self.keywords.setdefault(keyword.lower(), keyword) for keyword in keywords)
            flags = Flags(SystemFlag(system), spelled)
            self.flags.append(flags)
            self.texts.append(_spell(flags, recent=False))
            self.recent_texts.append(_spell(flags, recent=True))
        return found

    def changed(self, change: Callable[[Flags], Flags]) -> Callable[[int], int]:
        """`change` as a function of state indices, which computes each state once."""
        known: dict[int, int] = {}

        def apply(state: int) -> int:
            if state not in known:
                flags = change(self.flags[state])
                known[state] = self.index(int(flags.system), flags.keywords)
            return known[state]

        return apply

    def having(self, flag: SystemFlag) -> frozenset[int]:
        """Indices of the states with a system flag."""
        known = self._having.get(flag)
        if known is None or known[0] != len(self.flags):
            bit = int(flag)
            states = frozenset(index for index, flags in enumerate(self.flags) if int(flags.system) & bit)
            known = self._having[flag] = len(self.flags), states
        return known[1]

    def lacking(self, flag: SystemFlag) -> frozenset[int]:
        """Indices of the states without a system flag."""
        return frozenset(range(len(self.flags))) - self.having(flag)

    def matching(self, wanted: Callable[[Flags], bool]) -> set[int]:
        """Indices of the states that satisfy `wanted`."""
        return {index for index, flags in enumerate(self.flags) if wanted(flags)}
