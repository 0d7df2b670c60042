"""The bridge from the standard library's logging: records of the server, the driver and the app become events.

logging.basicConfig(handlers=[StdlibHandler(log)], level=logging.INFO)
"""

import logging
from typing import Final

from workhorse.telemetry.lines import Level, plain, render_exception
from workhorse.telemetry.log import Log

__all__ = ["StdlibHandler"]

STANDARD_ATTRIBUTES: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class StdlibHandler(logging.Handler):
    """Sends records to `log` as events named `log.record`.

    Fields: `logger`, `message`, `exception` (the traceback) and `stack` where there is one, and what `extra=` gave.
    """

    def __init__(self, log: Log, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record. Never raises: a message whose arguments do not fit it is logged without them."""
        fields = {str(name): value for name, value in record.__dict__.items() if name not in STANDARD_ATTRIBUTES}
        fields["logger"] = record.name
        fields["message"] = _message(record)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            fields["exception"] = render_exception(error)
        elif record.exc_text:
            fields["exception"] = record.exc_text
        if record.stack_info:
            fields["stack"] = record.stack_info
        self._log.event(_level(record.levelno), "log.record", **fields)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - an argument's __str__ may raise anything, and a log line must not
        return f"{plain(record.msg)} (its arguments do not fit it)"


def _level(number: int) -> Level:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"
