"""What commands find out about backups (damage, or that there is none), into a journal of their own: so that the
history knows, and whoever is to be told is told. It never makes the command fail.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.engine.journal import JsonLinesJournal
    from xobackup.repository.metadata import RestorePoint

BLOCKS, BOOT = "blocks", "boot"


class Examined:
    """Notes for one command; the journal begins with the first of them."""

    def __init__(self, directory: Path | None, verb: str) -> None:
        from xobackup.clock import SystemClock

        self._directory, self._verb, self._clock = directory, verb, SystemClock()
        self._journal: JsonLinesJournal | None = None
        self._run_id = ""
        self._began_s = 0.0
        self._damaged = False

    def note(self, vm: str, name: str, remote: str, *, damage: str, whole: bool = False, what: str = BLOCKS) -> None:
        """``damage``: empty when none was found; ``whole``: all of the VM's backups there were looked at."""
        from xobackup.engine import events

        if self._directory is None or not (damage or whole):
            return
        event = events.Examined(uuid=vm, name=name, remote=remote, what=what, damage=damage, whole=whole)
        with contextlib.suppress(OSError):
            self._begun(self._directory / "journal").write(event)
            self._damaged = self._damaged or bool(damage)

    @property
    def noted(self) -> bool:
        """Something was."""
        return self._journal is not None

    def _begun(self, directory: Path) -> JsonLinesJournal:
        import secrets
        import uuid

        from xobackup.engine import events
        from xobackup.engine.journal import JsonLinesJournal, journal_path
        from xobackup.engine.run import version

        if self._journal is None:
            self._run_id = str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
            self._began_s = self._clock.now_s()
            self._journal = JsonLinesJournal(journal_path(directory, self._run_id, self._clock), self._clock)
            self._journal.write(
                events.RunStarted(
                    run_id=self._run_id,
                    verb=self._verb,
                    job="",
                    job_id="",
                    version=version(),
                    host=socket.gethostname(),
                    pid=os.getpid(),
                )
            )
        return self._journal

    def close(self) -> None:
        from xobackup.engine import events

        if self._journal is None:
            return
        with contextlib.suppress(OSError):
            self._journal.write(
                events.RunEnded(
                    run_id=self._run_id,
                    outcome="damage" if self._damaged else "ok",
                    ok=0,
                    failed=0,
                    skipped=0,
                    duration_s=max(0.0, self._clock.now_s() - self._began_s),
                )
            )
            self._journal.close()


@contextlib.contextmanager
def examining(config: Path | None, verb: str) -> Iterator[Examined]:
    """Notes into the state directory of the configuration; without one (a remote given as a URL) they go nowhere."""
    from xobackup.cli.restore_tests import state_directory

    found = Examined(state_directory(config), verb)
    try:
        yield found
    finally:
        found.close()
        if found.noted:
            tell_now(config)


def tell_now(config: Path | None) -> None:
    """Whoever is to be told, now: there may be no service that does."""
    from xobackup.cli.options import read_configuration
    from xobackup.config.errors import ConfigError

    with contextlib.suppress(ConfigError, OSError):
        _tell(read_configuration(config))


def _tell(configuration: Configuration) -> None:
    from xobackup.cli.notifying import notify_all
    from xobackup.cli.output import Output

    notify_all(configuration, lambda told: Output(as_json=False).note(told, style="yellow"))


@contextlib.contextmanager
def noting_damage(configuration: Configuration | None, point: RestorePoint, remote: str) -> Iterator[None]:
    """While a restore point is restored: damage that ends it is noted and told."""
    from remotes.errors import Corrupt
    from vhd.errors import VhdError
    from xobackup.engine.errors import IntegrityError

    try:
        yield
    except (IntegrityError, Corrupt, VhdError) as error:
        if configuration is not None:
            notes = Examined(configuration.state_directory, "restore")
            damage = f"restore point {point.id} cannot be restored: {error}"
            notes.note(point.vm_uuid, point.vm_name, remote, damage=damage)
            notes.close()
            _tell(configuration)
        raise


def configuration_of(config: Path | None) -> Configuration | None:
    """A remote that is given as a URL needs none."""
    from xobackup.cli.options import read_configuration
    from xobackup.config.errors import ConfigError

    try:
        return read_configuration(config)
    except ConfigError:
        return None
