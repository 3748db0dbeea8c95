"""Named findings: what a check says about bytes, as data.

A finding has a stable ``code`` (tests, JSON and documentation use it), a severity and a sentence with both
values. Structures are unpacked leniently where possible and judged by pure functions that return findings;
who opens a disk decides which severities are fatal (`error` always is).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad: an error makes the disk unusable, a warning only some reader's complaint."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as the format asks, e.g. ``footer-checksum``."""

    code: str
    message: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def errors_of(findings: list[Finding]) -> list[Finding]:
    """The findings that make a disk unusable."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]
