"""``python -m xobackup``."""

from __future__ import annotations

from xobackup.cli.main import run

if __name__ == "__main__":
    run()
