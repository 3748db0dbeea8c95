"""Where the files of a backup go: pure, but for the look whether something is there already.

Names in an archive are not believed: a member goes where its kind goes, never out of there. Files that the
configuration names outside of its own directory come back only from a remote that is encrypted: on another one
anybody who can write there could have put anything under any name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from xobackup.own.packing import CONFIG, FILES, HISTORY, STATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A member and its place; ``path`` is ``None`` for the history, which is no file. ``why_not``: it is left."""

    member: str
    path: Path | None
    why_not: str = ""


def place(
    members: Iterable[str],
    elsewhere: Mapping[str, str],
    *,
    config: Path,
    state: Path,
    root: Path | None,
    trusted: bool,
) -> list[Placed]:
    """Every member. ``config``: the configuration file; ``root``: instead of ``/``."""
    found = []
    for member in members:
        if member == HISTORY:
            found.append(Placed(member=member, path=None))
            continue
        inside, why_not = _path(member, elsewhere, config, state, trusted)
        path = inside if root is None or inside is None else root / inside.relative_to(inside.anchor)
        found.append(Placed(member=member, path=path, why_not=why_not))
    return found


def _path(
    member: str, elsewhere: Mapping[str, str], config: Path, state: Path, trusted: bool
) -> tuple[Path | None, str]:
    if member.startswith(FILES):
        path = Path(elsewhere.get(member, ""))
        if not path.is_absolute() or ".." in path.parts:
            return None, "the manifest does not say where it was"
        if not trusted and not path.is_relative_to(config.parent):
            return None, f"it was {path}, and only an encrypted remote is believed that"
        return path, ""
    for prefix, base in ((CONFIG, config.parent), (STATE, state)):
        if member.startswith(prefix):
            inside = PurePosixPath(member.removeprefix(prefix))
            if inside.is_absolute() or ".." in inside.parts or not inside.parts:
                return None, "its name leads elsewhere"
            return base / inside, ""
    return None, "this is not known"
