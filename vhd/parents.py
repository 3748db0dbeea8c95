"""Where a parent may be looked for: only ever beside its child.

What a disk says of its parent is somebody else's text. Folders in it are dropped (Xen writes full paths of its own
storage), and a name that climbs (``..``) or hides something (control characters) is refused before anything is
opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhd.errors import ChainError

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME_MAX = 255


def parent_names(child: str, candidates: Iterable[str]) -> list[str]:
    """File names to try, in order. Raises :class:`ChainError` for a candidate that must not be opened."""
    names: list[str] = []
    for candidate in candidates:
        parts = candidate.replace("\\", "/").split("/")
        name = parts[-1]
        if ".." in parts or any(ord(letter) < 32 for letter in candidate) or len(name) > NAME_MAX:
            raise ChainError(f"{child}: its parent's name {candidate[:80]!r} is not one of a file beside it")
        if name and name != "." and name not in names:
            names.append(name)
    return names
