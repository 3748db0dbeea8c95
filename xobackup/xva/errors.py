"""What can be wrong with an archive of a VM.

    XvaError          ``code`` is stable
    ├── Truncated     it ends before its end: cut off
    └── Malformed     its bytes are wrong

Whatever is underneath (a file, a connection) raises its own errors; they pass through unchanged.
"""

from __future__ import annotations


class XvaError(Exception):
    """Root. ``position`` counts bytes of the tar, after unpacking."""

    def __init__(self, code: str, problem: str, *, position: int | None = None) -> None:
        self.code = code
        self.problem = problem
        self.position = position
        where = "" if position is None else f" (at byte {position} of the archive)"
        super().__init__(f"{problem}{where}")


class Truncated(XvaError):
    """It ends before its end."""

    def __init__(self, problem: str, *, position: int | None = None) -> None:
        super().__init__("xva-truncated", problem, position=position)


class Malformed(XvaError):
    """Its bytes are wrong."""
