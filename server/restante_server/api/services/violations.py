"""The bad fields of one request, collected: a caller that mends them mends them all at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from grpc import StatusCode

from restante.errors import FieldViolation, InvalidArgument, RestanteError


class Violations:
    """Filled while a handler judges a request, and raised at the end of `collected`."""

    def __init__(self) -> None:
        self._first: RestanteError | None = None
        self._found: list[FieldViolation] = []

    def require(self, holds: bool, field: str, problem: str) -> None:
        """Note a bad field unless the condition holds."""
        if not holds:
            self._note(InvalidArgument(field=field, problem=problem), field)

    @contextmanager
    def noting(self, field: str) -> Iterator[None]:
        """Note an error of the block, whose status is INVALID_ARGUMENT, and go on behind it; others pass."""
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
        """Raise the first error that was noted, with the bad fields of all."""
        if self._first is not None:
            self._first.violations = tuple(self._found)
            raise self._first


@contextmanager
def collected() -> Iterator[Violations]:
    """The checks of one request. Raises at the end what they found; a check that passes on another error ends them."""
    violations = Violations()
    yield violations
    violations.raise_first()
