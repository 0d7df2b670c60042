"""What the operator learns of logins: one line each, with the word that the browser is not told.

No line has a token, a code, a state or a name of the user: who logged in is the session's to say, and the instance
leads from the browser's reply to the line.
"""

from typing import Final

from workhorse.contracts import Recorder
from workhorse.identity.login.problems import Stopped
from workhorse.identity.reason import Refused
from workhorse.problems import request_instance
from workhorse.telemetry.log import Log

__all__ = ["Report"]

MAX_DESCRIBED: Final = 300


class Report:
    """Tells of the logins at one issuer.

    Args:
        issuer: its name.
        log: where lines go; nowhere if None.
        recorder: where failed logins are recorded; a login itself is the session's to record.
    """

    def __init__(self, issuer: str, log: Log | None, recorder: Recorder | None = None) -> None:
        self._recorder = recorder
        self._issuer = issuer
        self._log = log

    def succeeded(self) -> None:
        """A session has begun."""
        if self._log is not None:
            self._log.event("info", "login.succeeded", issuer=self._issuer, instance=request_instance())

    def failed(self, error: Exception, described: str = "") -> None:
        """A login, or a logout that the issuer asked for, has failed.

        Args:
            error: what ended it.
            described: what the issuer says of it. Anybody can write a link that says it, so it is cut, and only the
                log has it.
        """
        if isinstance(error, Stopped):
            why = error.stop.value
        elif isinstance(error, Refused):
            why = error.reason.value
        else:
            why = str(error) or type(error).__name__
        if self._recorder is not None:
            known = isinstance(error, Stopped | Refused)
            self._recorder.tell(
                "audit.login_failed", subject=self._issuer, data={"why": why if known else type(error).__name__}
            )
        if self._log is None:
            return
        self._log.event(
            "warning" if isinstance(error, Stopped | Refused) else "error",
            "login.failed",
            issuer=self._issuer,
            why=why,
            error=error.error if isinstance(error, Stopped) else "",
            described=described[:MAX_DESCRIBED],
            instance=request_instance(),
        )
