"""Tokens for programs: made by the command line, shown once, kept as hashes in the state directory, with a role and
an end.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from xobackup.service.state import StateUnreadable, write_whole
from xobackup.web.access import Role, Who

NAME = "web-tokens.json"
PREFIX = "xob_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """``ends_at``: Unix seconds, ``None`` for one that holds for ever."""

    name: str
    role: str
    made_at: float
    ends_at: float | None
    digest: str

    def holds(self, now_s: float) -> bool:
        return self.ends_at is None or now_s < self.ends_at


def read_tokens(directory: Path) -> list[Token]:
    """Raises ``StateUnreadable`` for a damaged file: nobody is let in by it."""
    path = directory / NAME
    try:
        return [Token(**one) for one in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise StateUnreadable(f"{path} is damaged ({error}): delete it and make new tokens") from error


def make_token(directory: Path, name: str, role: Role, *, now_s: float, ends_at: float | None) -> str:
    """A new token; the word itself, which is not kept."""
    known = read_tokens(directory)
    if any(one.name == name for one in known):
        raise ValueError(f"there is a token {name!r} already: revoke it first")
    word = PREFIX + secrets.token_urlsafe(32)
    token = Token(name=name, role=role.name.lower(), made_at=now_s, ends_at=ends_at, digest=_digest(word))
    _write(directory, [*known, token])
    return word


def revoke_token(directory: Path, name: str) -> bool:
    """Whether there was one."""
    known = read_tokens(directory)
    left = [one for one in known if one.name != name]
    if len(left) == len(known):
        return False
    _write(directory, left)
    return True


def who_has(tokens: Sequence[Token], word: str, now_s: float) -> Who | None:
    """Whose token it is, if it still holds."""
    digest = _digest(word)
    for one in tokens:
        if secrets.compare_digest(one.digest, digest):
            return Who(name=f"token {one.name}", role=Role.named(one.role)) if one.holds(now_s) else None
    return None


def _write(directory: Path, tokens: Sequence[Token]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(directory / NAME, [asdict(one) for one in tokens])
    (directory / NAME).chmod(0o600)


def _digest(word: str) -> str:
    return hashlib.sha256(word.encode("utf-8", "replace")).hexdigest()
