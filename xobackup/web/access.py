"""Who may do what. Pure but for the cost of checking a password.

Roles contain each other: a viewer looks, an operator runs, cancels, pauses and pins, an admin may all. A password
is a hash of argon2id; a wrong name costs as much time as a wrong password. After some failures from one address or
for one name, everything from or for it is refused for a while that doubles.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """What somebody may do; the higher may what the lower may."""

    NOBODY = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @classmethod
    def named(cls, name: str) -> Role:
        return cls[name.upper()]


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody of the configuration."""

    name: str
    password_hash: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Whoever sent a request.

    ``csrf``: what has to come with everything that changes something; empty where nothing that a browser does by
    itself can be abused (tokens).
    """

    name: str
    role: Role
    csrf: str = ""


NOBODY = Who(name="", role=Role.NOBODY)


def hash_password(password: str) -> str:
    """For the configuration."""
    from argon2 import PasswordHasher

    return PasswordHasher().hash(password)


class Passwords:
    """Checks names and passwords against the users there are."""

    def __init__(self, users: Mapping[str, User]) -> None:
        self._users = dict(users)
        self._stranger = hash_password("nobody has this")

    def check(self, name: str, password: str) -> User | None:
        """The user, if it is them."""
        from argon2 import PasswordHasher
        from argon2.exceptions import Argon2Error, InvalidHashError

        user = self._users.get(name)
        try:
            PasswordHasher().verify(user.password_hash if user else self._stranger, password)
        except (Argon2Error, InvalidHashError):
            return None
        return user


class Throttle:
    """Refuses who failed too often. ``now_s`` gives monotonic seconds."""

    def __init__(
        self, now_s: Callable[[], float], *, free: int = 5, first_s: float = 5.0, most_s: float = 900.0
    ) -> None:
        self._now_s = now_s
        self._free, self._first_s, self._most_s = free, first_s, most_s
        self._failures: dict[str, tuple[int, float]] = {}
        self._mutex = threading.Lock()

    def wait_s(self, *keys: str) -> float:
        """How long is still to be waited, 0 when it may be tried."""
        now = self._now_s()
        with self._mutex:
            return max([0.0, *(self._until(key) - now for key in keys)])

    def failed(self, *keys: str) -> None:
        now = self._now_s()
        with self._mutex:
            for key in keys:
                self._failures[key] = (self._failures.get(key, (0, 0.0))[0] + 1, now)
            if len(self._failures) > 10_000:  # somebody tries names or addresses without end
                oldest = sorted(self._failures, key=lambda key: self._failures[key][1])[:5_000]
                for key in oldest:
                    del self._failures[key]

    def succeeded(self, *keys: str) -> None:
        with self._mutex:
            for key in keys:
                self._failures.pop(key, None)

    def _until(self, key: str) -> float:
        count, last = self._failures.get(key, (0, 0.0))
        if count < self._free:
            return 0.0
        return last + min(self._most_s, self._first_s * 2.0 ** min(count - self._free, 20))
