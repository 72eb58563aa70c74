"""The base of all errors, and the error for an unknown reason."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from grpc import StatusCode


class FieldViolation(NamedTuple):
    """One bad field of a request (google.rpc.BadRequest)."""

    field: str  # its path in the request, such as "draft.attachments"
    problem: str


class RestanteError(Exception):
    """Base of all errors. `metadata` has the keys that the class declares; `detail` is a sentence for people.

    `retry_seconds` is the delay before another attempt, when the server gave one. `violations` are all bad fields of a
    refused request, the reason's field first; they are empty when the fault lies in no field.
    """

    reason: ClassVar[str] = ""
    code: ClassVar[StatusCode] = StatusCode.UNKNOWN
    keys: ClassVar[tuple[str, ...]] = ()
    caused_by_client: ClassVar[bool] = False
    text: ClassVar[str] = "The call failed."

    def __init__(self, detail: str = "", *, retry_seconds: float | None = None, **metadata: object) -> None:
        unknown = metadata.keys() - set(self.keys)
        if unknown:
            raise TypeError(f"{type(self).__name__} has no metadata {sorted(unknown)}")
        self.metadata = {key: str(value) for key, value in metadata.items()}
        self.retry_seconds = retry_seconds
        self.violations: tuple[FieldViolation, ...] = ()
        if "retry_seconds" in self.keys and retry_seconds is not None:  # for readers that know only ErrorInfo
            self.metadata["retry_seconds"] = f"{retry_seconds:g}"
        self.detail = detail or self._sentence()
        super().__init__(self.detail)

    def __str__(self) -> str:
        """The detail, and the bad fields unless the only one is the reason's, which the detail names."""
        bad = self.violations
        if not bad or (len(bad) == 1 and bad[0].field == self.metadata.get("field")):
            return self.detail
        return f"{self.detail} Bad fields: {'; '.join(f'{field} ({problem})' for field, problem in bad)}."

    def _sentence(self) -> str:
        known = ", ".join(f"{key} {value}" for key, value in self.metadata.items())
        return f"{self.text.rstrip('.')} ({known})." if known else self.text


class UnknownReason(RestanteError):
    """A status without one of Restante's reasons, or with a reason that this version does not know."""

    def __init__(self, detail: str, status_code: StatusCode, name: str = "") -> None:
        super().__init__(detail or self.text)
        self.status_code, self.name = status_code, name
