"""Logins of browsers: a random word in a cookie, of which the memory of the service knows whose it is. A restart ends
them all.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from xobackup.web.access import Role, Who

IDLE_S = 3600.0
LONGEST_S = 12 * 3600.0
SESSIONS_MAX = 1000


@dataclass(slots=True, kw_only=True)
class _Session:
    who: Who
    began_s: float
    used_s: float


class Sessions:
    """Thread-safe. ``now_s`` gives monotonic seconds."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._known: dict[str, _Session] = {}
        self._mutex = threading.Lock()

    def begin(self, name: str, role: Role) -> str:
        """A new login; the word for the cookie."""
        word, now = secrets.token_urlsafe(32), self._now_s()
        session = _Session(who=Who(name=name, role=role, csrf=secrets.token_urlsafe(32)), began_s=now, used_s=now)
        with self._mutex:
            self._forget(now)
            if len(self._known) >= SESSIONS_MAX:
                del self._known[min(self._known, key=lambda key: self._known[key].used_s)]
            self._known[_key(word)] = session
        return word

    def who(self, word: str) -> Who | None:
        """Whose it is, if it still holds."""
        now = self._now_s()
        with self._mutex:
            self._forget(now)
            session = self._known.get(_key(word))
            if session is None:
                return None
            session.used_s = now
            return session.who

    def end(self, word: str) -> None:
        with self._mutex:
            self._known.pop(_key(word), None)

    def end_all(self) -> None:
        """Of everybody: the users have changed."""
        with self._mutex:
            self._known.clear()

    def _forget(self, now: float) -> None:
        over = [key for key, one in self._known.items() if now - one.used_s > IDLE_S or now - one.began_s > LONGEST_S]
        for key in over:
            del self._known[key]


def _key(word: str) -> str:
    """Looked up by its hash, so that the time a comparison takes tells nothing."""
    return hashlib.sha256(word.encode("utf-8", "replace")).hexdigest()
