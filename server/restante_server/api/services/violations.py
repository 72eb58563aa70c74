"""Collecting the bad fields of one request, so that the client can correct all of them at once."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from grpc import StatusCode

from restante.errors import FieldViolation, InvalidArgument, RestanteError


class Violations:
    """The errors that a handler finds while it checks a request, in a block at whose end the first is raised."""

    __slots__ = ("_first", "_found")

    def __init__(self) -> None:
        self._first: RestanteError | None = None
        self._found: list[FieldViolation] = []

    def require(self, holds: bool, field: str, problem: str) -> None:
        """Note a bad field unless the condition holds."""
        if not holds:
            self.note(InvalidArgument(field=field, problem=problem), field)

    def noting(self, field: str) -> _Noting:
        """Note an error of the block with status INVALID_ARGUMENT and go on after the block. Other errors pass."""
        return _Noting(self, field)

    def note(self, error: RestanteError, field: str) -> None:
        """Note an error of a field, which it names itself if it has violations."""
        self._first = self._first or error
        self._found += error.violations or (FieldViolation(field, error.metadata.get("problem") or error.detail),)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        """Raise the first noted error, with the bad fields of all. An error of the block passes at once."""
        if error is None and self._first is not None:
            self._first.violations = tuple(self._found)
            raise self._first


class _Noting:
    """The block of `Violations.noting`."""

    __slots__ = ("_field", "_violations")

    def __init__(self, violations: Violations, field: str) -> None:
        self._violations, self._field = violations, field

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> bool:
        if not isinstance(error, RestanteError) or error.code is not StatusCode.INVALID_ARGUMENT:
            return False
        self._violations.note(error, self._field)
        return True


def collected() -> Violations:
    """Collect the bad fields of one request in the block, and raise them at its end. Other errors pass at once."""
    return Violations()
