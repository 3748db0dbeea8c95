"""What health checks found, for ``backups list`` and ``backups show``: a mark, a sentence, JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xobackup.texts import duration_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Test = dict[str, Any]


def state_directory(config: Path | None) -> Path | None:
    """Where they are remembered. A remote that is given as a URL needs no configuration: then ``None``."""
    from xobackup.cli.options import read_configuration
    from xobackup.config.errors import ConfigError

    try:
        return read_configuration(config).state_directory
    except ConfigError:
        return None


def tests(directory: Path | None, vm_uuid: str, remote: str) -> dict[str, Test]:
    """By restore point; nothing without a directory."""
    from xobackup.engine.health.memory import points_tested

    return {} if directory is None else points_tested(directory, vm_uuid, remote)


def last_of(points: Iterable[str], known: Mapping[str, Test]) -> Test | None:
    """The latest test of any of these restore points; ``None`` when none was tested."""
    found = [known[point] for point in points if point in known]
    return max(found, key=lambda test: float(test["checked_s"]), default=None)


def mark(test: Test | None) -> str:
    """For a column: ``ok 2026-01-31``, ``FAILED 2026-01-31``, or nothing."""
    if test is None:
        return ""
    return f"{'ok' if test['ok'] else 'FAILED'} {_day(test)}"


def line(point: str, test: Test) -> str:
    """``20260131T... boots: tested 2026-01-31 on SR x of pool y, up after 41s``."""
    where = f"tested {_day(test)} on SR {test.get('sr') or '?'} of {test.get('pool') or '?'}"
    if not test["ok"]:
        return f"{point} does not boot: {where}: {test['reason']}"
    seconds = test.get("boot_s")
    up = f", up after {duration_text(seconds)}" if isinstance(seconds, int | float) else ""
    return f"{point} boots: {where}{up}"


def _day(test: Test) -> str:
    from xobackup.clock import utc

    return utc(float(test["checked_s"])).strftime("%Y-%m-%d")
