"""Names that the configuration takes, made of names that people gave; unique, and the same in every translation."""

from __future__ import annotations

import re
import unicodedata

NAME_MAX = 64
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")


def slug(text: str, *, otherwise: str) -> str:
    """``text`` in letters, digits, ``.``, ``_`` and ``-``, beginning with a letter or digit."""
    plain = unicodedata.normalize("NFKD", text[: 4 * NAME_MAX]).encode("ascii", "ignore").decode()
    name = re.sub(r"-{2,}", "-", _OTHER.sub("-", plain)).strip("-._")
    return name[:NAME_MAX].rstrip("-._") or otherwise


class Names:
    """Gives every name out once: ``nightly``, ``nightly-2``, ..."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """``name``, or with a number behind it. Names that differ only in case count as the same."""
        key = name.lower()
        found = name
        while found.lower() in self._taken:
            number = self._next.get(key, 2)
            self._next[key] = number + 1
            ending = f"-{number}"
            found = name[: NAME_MAX - len(ending)] + ending
        self._taken.add(found.lower())
        return found


def joined(*parts: str) -> str:
    """Parts of a name with ``-`` between them, the first one shortened when it is too much."""
    rest = "".join(f"-{part[:24].rstrip('-._')}" for part in parts[1:] if part)[: NAME_MAX - 8]
    return (parts[0][: NAME_MAX - len(rest)].rstrip("-._") + rest).rstrip("-._")
