"""The toolstack: what all messages and handlers of one pool share."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from xobackup.simpool.cbt import ChangeLogs
from xobackup.simpool.database import Database
from xobackup.simpool.events import Registrations
from xobackup.simpool.failures import Failure
from xobackup.simpool.faults import Faults
from xobackup.simpool.journal import Journal
from xobackup.simpool.releases import unknown_to
from xobackup.simpool.sessions import Sessions
from xobackup.simpool.tasks import Tasks
from xobackup.simpool.values import NULL, date_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from xobackup.clock import Clock
    from xobackup.simpool.content import Source
    from xobackup.simpool.database import Record
    from xobackup.simpool.options import Options
    from xobackup.simpool.storage.store import SrStore


class SkewedClock:
    """The time of day of hosts whose clocks are wrong."""

    def __init__(self, inner: Clock, ahead_s: float) -> None:
        self._inner = inner
        self._ahead_s = ahead_s

    def now_s(self) -> float:
        return self._inner.now_s() + self._ahead_s

    def monotonic_s(self) -> float:
        return self._inner.monotonic_s()

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class Toolstack:
    """One pool's database, sessions, tasks, storage and plan of faults."""

    def __init__(self, *, clock: Clock, seed: int, options: Options, username: str, password: str) -> None:
        self.clock: Clock = SkewedClock(clock, options.clock_skew_s) if options.clock_skew_s else clock
        clock = self.clock
        self.unknown = unknown_to(options.release)
        """What hosts of this release do not have."""
        self.seed = seed
        self.rng = random.Random(seed)
        self.options = options
        self.database = Database(self.rng)
        self.sessions = Sessions(
            self.database,
            clock,
            username=username,
            password=password,
            failed_login_delay_s=options.failed_login_delay_s,
        )
        self.faults = Faults()
        self.tasks = Tasks(self.database, clock, vanishes=lambda label: self.faults.take("vanish", label) is not None)
        self.journal = Journal()
        self.registrations = Registrations()
        self.scheme = "https"
        self.certificate_pem = ""
        self.nbd_ports: dict[str, int] = {}
        """Port of each host's NBD server."""
        self.stores: dict[str, SrStore] = {}
        self.change_logs = ChangeLogs(self)
        self.vtpm_contents: dict[str, str] = {}
        self.list_methods: Callable[[], list[str]] = list
        self.restart_into: Callable[[dict[str, dict[str, Record]]], None] = lambda _tables: None
        """Replace the database and end everything that runs, as the master's restart does."""
        self.closing = threading.Event()
        self.boots_until_s = float("-inf")
        """By the monotonic clock: until then every call is told to come back."""
        self.on_created: list[Callable[[str, int], None]] = []
        """Told of (VDI, size) whenever an empty disk is made."""
        self.on_copied: list[Callable[[str, str], None]] = []
        """Told of (source VDI, new VDI) whenever a disk's content is snapshotted, cloned or copied."""
        self.on_written: list[Callable[[str, int, bytes | memoryview, Source | None], None]] = []
        """Told of every write of a guest, after it was made, and where its bytes can be had again."""
        self.on_changed: list[Callable[[str], None]] = []
        """Told of a VDI whose content is about to become unknown (import, revert)."""
        self.on_storage: list[Callable[[str], None]] = []
        """Told of a storage repository whose trees changed (garbage collector, persistence)."""

    def now_text(self) -> str:
        return date_text(self.clock.now_s())

    @property
    def boots(self) -> bool:
        """Whether the toolstack has restarted and is not there yet."""
        return self.clock.monotonic_s() < self.boots_until_s

    @property
    def pool(self) -> str:
        return next(iter(self.database.rows["pool"]))

    @property
    def master(self) -> str:
        return str(self.database.get("pool", self.pool)["master"])

    def store_of(self, vdi: str) -> SrStore | None:
        """The store with the disk's VHD; ``None`` for disks that are no VHDs (ISO images)."""
        record = self.database.get("VDI", vdi)
        store = self.stores.get(record["SR"])
        return store if store is not None and record["uuid"] in store else None

    def control_domain(self, host: str) -> str:
        return str(self.database.get("host", host)["control_domain"])

    def hosts_of_sr(self, sr: str) -> list[str]:
        """Live hosts on which the repository is plugged."""
        with self.database.lock:
            hosts = [pbd["host"] for _, pbd in self.database.where("PBD", SR=sr, currently_attached=True)]
            return [host for host in hosts if self.is_live(host)]

    def is_live(self, host: str) -> bool:
        """Whether the host runs, as its metrics say."""
        metrics = self.database.get("host", host)["metrics"]
        return self.database.exists("host_metrics", metrics) and bool(
            self.database.get("host_metrics", metrics)["live"]
        )

    def session_ended(self, session: str) -> Callable[[], Failure | None]:
        """A question for waits: has the session (or the pool) gone meanwhile?"""

        def gone() -> Failure | None:
            if self.closing.is_set() or not self.sessions.alive(session):
                return Failure("SESSION_INVALID", session)
            return None

        return gone

    def storage_changed(self, sr: str) -> None:
        for tell in self.on_storage:
            tell(sr)

    def written(self, vdi: str, offset: int, data: bytes | memoryview, source: Source | None = None) -> None:
        for tell in self.on_written:
            tell(vdi, offset, data, source)

    def content_changed(self, vdi: str) -> None:
        for tell in self.on_changed:
            tell(vdi)

    def copied(self, source: str, new: str) -> None:
        for tell in self.on_copied:
            tell(source, new)


def is_null(ref: object) -> bool:
    """Null references as they occur in the wild."""
    return not isinstance(ref, str) or ref in ("", NULL) or ref.startswith("Ref:")
