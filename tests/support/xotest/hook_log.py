"""Hooks that write down when they were called and with what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xobackup.engine.hooks.hook import Hook, IfItFails, When

SCRIPT = """
echo "$XOBACKUP_HOOK|$XOBACKUP_VM_NAME|$XOBACKUP_OUTCOME|$XOBACKUP_GROUP|$XOBACKUP_ERROR" >> "$0.log"
[ "$1" = sleep ] && exec sleep 300
[ "$1" = fail ] && echo "it said no" && exit 7
[ "$1" = "fail $XOBACKUP_VM_NAME" ] && echo "it said no" && exit 7
exit 0
"""


class HookLog:
    """A script and its log. It ``fail``s or ``sleep``s where it is told to."""

    def __init__(self, directory: Path) -> None:
        self.script = directory / "hook.sh"
        self.script.write_text(SCRIPT)
        self.path = directory / "hook.sh.log"

    def hook(self, on: When, does: str = "", **fields: Any) -> Hook:
        """One hook; its failure stops unless ``fields`` say otherwise."""
        command = ("/bin/sh", str(self.script), does)
        return Hook(**{"on": on, "command": command, "if_it_fails": IfItFails.STOP, **fields})

    def all(self, **does: str) -> tuple[Hook, ...]:
        """One at every moment, with the defaults of the configuration; ``before_run="fail"``."""
        return tuple(
            self.hook(on, does.get(on.name.lower(), ""), if_it_fails=IfItFails.STOP if on.before else IfItFails.WARN)
            for on in When
        )

    @property
    def lines(self) -> list[list[str]]:
        """Of each call: moment, VM, outcome, group, error."""
        if not self.path.exists():
            return []
        return [line.split("|", 4) for line in self.path.read_text().splitlines()]

    @property
    def moments(self) -> list[str]:
        return [line[0] for line in self.lines]
