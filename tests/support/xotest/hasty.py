"""The command line in a process whose leases are short: ``python -m xotest.hasty FACTOR ARGUMENTS``.

Every lease, beat and bound of the engine's database is that many times shorter, and nothing else.
"""

from __future__ import annotations

import sys

from xobackup.workers import bounded, records


def hurry(factor: float) -> None:
    """In this process from now on; before anything takes the figures over."""
    for name in ("LEASE_S", "BEAT_S"):
        setattr(records, name, getattr(records, name) / factor)
    bounded.CALL_S /= factor


if __name__ == "__main__":
    assert "xobackup.workers.board" not in sys.modules
    hurry(float(sys.argv[1]))
    from xobackup.cli.main import main

    sys.exit(main(sys.argv[2:]))
