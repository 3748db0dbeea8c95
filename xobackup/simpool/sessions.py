"""Sessions: logging in and out, and being thrown out.

A session unused for a day is gone; at most 500 exist, the least recently used goes first. An invalid one is
``SESSION_INVALID`` whatever is asked with it.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from xobackup.simpool.failures import Failure
from xobackup.simpool.values import date_text

if TYPE_CHECKING:
    from xobackup.clock import Clock
    from xobackup.simpool.database import Database

IDLE_MAX_S = 86_400
REFRESH_S = 600
SESSIONS_MAX = 500


class Sessions:
    """The sessions of one pool; their records live in the database."""

    def __init__(
        self, database: Database, clock: Clock, *, username: str, password: str, failed_login_delay_s: float
    ) -> None:
        self._database = database
        self._clock = clock
        self._username = username
        self._password = password
        self._failed_login_delay_s = failed_login_delay_s
        self._active: dict[str, float] = {}

    def matches(self, username: str, password: str) -> bool:
        """Whether these are the pool's credentials."""
        same_name = hmac.compare_digest(username.encode(), self._username.encode())
        return hmac.compare_digest(password.encode(), self._password.encode()) and same_name

    def login(self, username: str, password: str, originator: str) -> str:
        """A new session's reference. Raises ``SESSION_AUTHENTICATION_FAILED``, after a pause as xapi makes one."""
        if not self.matches(username, password):
            self._clock.sleep(self._failed_login_delay_s)
            raise Failure("SESSION_AUTHENTICATION_FAILED", username, "Authentication failure")
        with self._database.lock:
            while len(self._active) >= SESSIONS_MAX:
                self.end(min(self._active, key=self._active.__getitem__))
            now = self._clock.now_s()
            ref = self._database.create(
                "session",
                {
                    "last_active": date_text(now),
                    "validation_time": date_text(now),
                    "is_local_superuser": True,
                    "auth_user_name": username,
                    "originator": originator,
                    "this_host": next(iter(self._database.rows["host"]), "OpaqueRef:NULL"),
                },
            )
            self._active[ref] = now
            return ref

    def check(self, ref: object) -> str:
        """The session's reference if it is alive (and now used). Raises ``SESSION_INVALID``."""
        with self._database.lock:
            if not isinstance(ref, str) or ref not in self._active:
                raise Failure("SESSION_INVALID", ref)
            now = self._clock.now_s()
            if now - self._active[ref] > IDLE_MAX_S:
                self.end(ref)
                raise Failure("SESSION_INVALID", ref)
            self._active[ref] = now
            return ref

    def alive(self, ref: str) -> bool:
        return ref in self._active

    def end(self, ref: str) -> None:
        """Forget a session; blocked ``event.from`` calls of it wake up."""
        with self._database.lock:
            self._active.pop(ref, None)
            if self._database.exists("session", ref):
                self._database.destroy("session", ref)

    def end_all(self) -> None:
        """What a restart of the toolstack does to sessions."""
        for ref in list(self._active):
            self.end(ref)
