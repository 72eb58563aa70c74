"""Logs on standard error: one line for each event, in the same format in every process.

A JSON line begins with `timestamp` (UTC, milliseconds), `level`, `process` and `event`; other members follow.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

FIRST = ("timestamp", "level", "process", "event")
OURS = ("restante", "restante_cli", "restante_gateways", "restante_process", "restante_server")
"""Packages that log at the configured level. Libraries log from `warning` up: below it they log mail and names."""

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

Event = MutableMapping[str, Any]


def configure(process: str, *, form: Literal["json", "console"] = "json", level: str = "info") -> None:
    """Set up structlog and the standard library's logging for this process. Raises ValueError."""
    if level not in _LEVELS:
        raise ValueError(f"log level {level!r} is unknown; choose {', '.join(_LEVELS)}")
    if form not in ("json", "console"):
        raise ValueError(f"log format {form!r} is unknown; choose json or console")

    def facts(_logger: object, _method: str, event: Event) -> Event:
        event["timestamp"] = timestamp(datetime.now(UTC))
        event["process"] = process
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        facts,
    ]
    last = _json_renderers() if form == "json" else _console_renderers()
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    logging.basicConfig(level=max(logging.WARNING, _LEVELS[level]), handlers=[handler], force=True)
    for name in OURS:
        logging.getLogger(name).setLevel(_LEVELS[level])


def timestamp(moment: datetime) -> str:
    """A moment in the format of the logs: `2026-01-31T23:59:59.999Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _json_renderers() -> list[structlog.typing.Processor]:
    return [
        structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
        _in_order,
        structlog.processors.JSONRenderer(ensure_ascii=False),
    ]


def _console_renderers() -> list[structlog.typing.Processor]:
    plain = structlog.dev.plain_traceback  # the other formatters show local variables: mail, passwords
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


def _in_order(_logger: object, _method: str, event: Event) -> Event:
    return {name: event[name] for name in FIRST if name in event} | {
        name: value for name, value in event.items() if name not in FIRST
    }
