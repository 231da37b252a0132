"""Log lines on standard error, for people or for machines."""

import logging
import sys

import structlog

from gatesync.config.settings import LogFormat, LogLevel

__all__ = ["configure_logs"]


def configure_logs(form: LogFormat, level: LogLevel) -> None:
    """Write lines of at least this level; libraries' own warnings come out the same way."""
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if form is LogFormat.CONSOLE:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    lowest = getattr(logging, level.value.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info
            if form is LogFormat.JSON
            else structlog.processors.StackInfoRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
