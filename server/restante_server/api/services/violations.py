"""Collecting the bad fields of one request, so that the client can correct all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from grpc import StatusCode

from restante.errors import FieldViolation, InvalidArgument, RestanteError


class Violations:
    """The errors that a handler finds while it checks a request. `collected` raises them at its end."""

    def __init__(self) -> None:
        self._first: RestanteError | None = None
        self._found: list[FieldViolation] = []

    def require(self, holds: bool, field: str, problem: str) -> None:
        """Note a bad field unless the condition holds."""
        if not holds:
            self._note(InvalidArgument(field=field, problem=problem), field)

    @contextmanager
    def noting(self, field: str) -> Iterator[None]:
        """Note an error of the block with status INVALID_ARGUMENT and go on after the block. Other errors pass."""
        try:
            yield
        except RestanteError as error:
            if error.code is not StatusCode.INVALID_ARGUMENT:
                raise
            self._note(error, field)

    def _note(self, error: RestanteError, field: str) -> None:
        self._first = self._first or error
        self._found += error.violations or (FieldViolation(field, error.metadata.get("problem") or error.detail),)

    def raise_first(self) -> None:
        """Raise the first noted error, with the bad fields of all."""
        if self._first is not None:
            self._first.violations = tuple(self._found)
            raise self._first


@contextmanager
def collected() -> Iterator[Violations]:
    """Collect the bad fields of one request in the block, and raise them at its end. Other errors pass at once."""
    violations = Violations()
    yield violations
    violations.raise_first()
