"""What can be wrong with a VHD.

    VhdError
    ├── Malformed        the bytes of one structure are wrong (carries findings)
    ├── Unsupported      valid, but not something this code reads or writes
    ├── ChainError
    │   ├── MissingParent   a differencing disk's parent is not there
    │   ├── ParentMismatch  it is there, but it is not the one the child was made on
    │   └── ParentLoop      the parents go round in a circle
    ├── StreamError      a stream ended early, goes on too long, or is not what it announced
    └── MergeError       a merge cannot start or go on

The storage underneath raises its own errors; they pass through unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vhd.findings import Finding


class VhdError(Exception):
    """Root of everything this package raises for bad input."""


class Malformed(VhdError):
    """The bytes of ``name`` are wrong; ``findings`` say in what way."""

    def __init__(self, name: str, findings: Sequence[Finding]) -> None:
        self.name = name
        self.findings = tuple(findings)
        super().__init__(f"{name}: " + "; ".join(str(finding) for finding in self.findings))


class Unsupported(VhdError):
    """``name`` is valid but uses ``feature``, which is not handled here."""

    def __init__(self, name: str, feature: str) -> None:
        self.name = name
        self.feature = feature
        super().__init__(f"{name}: {feature} is not supported")


class ChainError(VhdError):
    """A chain of differencing disks does not hold together."""


class MissingParent(ChainError):
    """``child`` needs ``parent``, which is not there."""

    def __init__(self, child: str, parent: str) -> None:
        self.child = child
        self.parent = parent
        super().__init__(f"{child}: its parent {parent} is missing")


class ParentMismatch(ChainError):
    """``parent`` is not the disk ``child`` was made on."""

    def __init__(self, child: str, parent: str, expected: str, found: str) -> None:
        self.child = child
        self.parent = parent
        self.expected = expected
        self.found = found
        super().__init__(f"{child}: its parent {parent} has uuid {found}, expected {expected}")


class ParentLoop(ChainError):
    """Following the parents of ``child`` comes back to ``repeated``."""

    def __init__(self, child: str, repeated: str) -> None:
        self.child = child
        self.repeated = repeated
        super().__init__(f"{child}: its chain of parents comes back to {repeated}")


class StreamError(VhdError):
    """A VHD stream is not what it announced itself to be."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem
        super().__init__(f"{name}: {problem}")


class MergeError(VhdError):
    """Merging into ``name`` is not possible as things are."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem
        super().__init__(f"{name}: {problem}")
