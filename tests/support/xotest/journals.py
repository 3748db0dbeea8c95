"""Journals of runs that never were, for tests of what is made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xobackup.clock import FakeClock
from xobackup.engine import events
from xobackup.engine.journal import JsonLinesJournal, journal_path

WEB, DATABASE = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
NAMES = {WEB: "web", DATABASE: "database"}


class Story:
    """Writes one journal, event by event, through the journal's own code."""

    def __init__(
        self, directory: Path, clock: FakeClock, run_id: str, *, job: str = "nightly", verb: str = "run"
    ) -> None:
        self.clock = clock
        self.run_id = run_id
        self._began_s = clock.now_s()
        self.journal = JsonLinesJournal(journal_path(directory, run_id, clock), clock)
        self.say(
            events.RunStarted(run_id=run_id, verb=verb, job=job, job_id="j", version="1.0", host="backup-1", pid=1)
        )

    @property
    def path(self) -> Path:
        return self.journal.path

    def say(self, event: events.Event, *, after_s: float = 0.0) -> None:
        self.clock.advance(after_s)
        self.journal.write(event)

    def vm(
        self,
        vm: str,
        *,
        outcome: str = "ok",
        mode: str = "delta",
        read_bytes: int = 4 << 20,
        reason: str = "",
        packed: float | None = None,
    ) -> None:
        """A VM from its plan to its end, in 20 s."""
        began_s = self.clock.now_s()
        self.say(events.PhaseBegan(vm=vm, phase="prepare"))
        self.say(events.PhaseEnded(vm=vm, phase="prepare", ok=True, duration_s=2.0), after_s=2)
        self.say(events.VmPlanned(vm=vm, vm_name=NAMES.get(vm, vm), plan={"pool": "main", "uuid": vm}))
        self.say(events.PhaseBegan(vm=vm, phase="transfer"))
        bad = outcome != "ok"
        if not bad:
            self.say(self.disk(vm, mode=mode, read_bytes=read_bytes, packed=packed), after_s=10)
        self.say(events.PhaseEnded(vm=vm, phase="transfer", ok=not bad, duration_s=10.0, error=reason), after_s=0)
        if bad:
            self.say(events.Failed(vm=vm, error=reason, error_class="NoRoom", hint="make room", attempt=1))
        else:
            self.say(events.PointPublished(vm=vm, remote="nas", point="20260101T000000Z", size_bytes=read_bytes))
        self.clock.advance(began_s + 20 - self.clock.now_s())
        self.say(
            events.VmEnded(
                vm=vm,
                vm_name=NAMES.get(vm, vm),
                outcome=outcome,
                attempts=1,
                duration_s=20.0,
                read_bytes=0 if bad else read_bytes,
                reason=reason,
            )
        )

    def disk(self, vm: str, *, mode: str, read_bytes: int, packed: float | None = None) -> events.DiskTransferred:
        return events.DiskTransferred(
            vm=vm, disk="d", disk_name="system", mode=mode, base="", remotes=["nas"], blocks=read_bytes >> 21,
            read_bytes=read_bytes, duration_s=10.0, bottleneck="source", via="stream",
            not_via=["no NBD here"], notes=[], sampled_bytes=0 if packed is None else 1 << 20, packed=packed,
            chain=0 if mode == "full" else 3,
        )  # fmt: skip

    def end(self, outcome: str = "ok", **counts: Any) -> Path:
        """The run's last word."""
        self.say(
            events.RunEnded(
                run_id=self.run_id,
                outcome=outcome,
                ok=counts.get("ok", 0),
                failed=counts.get("failed", 0),
                skipped=counts.get("skipped", 0),
                duration_s=self.clock.now_s() - self._began_s,
            )
        )
        self.journal.close()
        return self.path


def one_run(
    directory: Path,
    clock: FakeClock,
    run_id: str,
    *,
    job: str = "nightly",
    outcomes: dict[str, str] | None = None,
    **vm: Any,
) -> Path:
    """A run of some VMs, each with its outcome."""
    story = Story(directory, clock, run_id, job=job)
    given = outcomes or {WEB: "ok"}
    for uuid, outcome in given.items():
        reason = "" if outcome == "ok" else "the remote is full"
        story.vm(uuid, outcome=outcome, reason=reason, **vm)
    return story.end("ok" if set(given.values()) == {"ok"} else "failed")
