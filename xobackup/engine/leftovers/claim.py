"""A living run says on the VM itself that it works on it, so that other machines leave alone what is its.

The mark on this machine (:mod:`xobackup.engine.active`) proves life and death at once, but only here. The claim is
for everybody else: a key of the VM's ``other_config`` with the run's id; who, where and when in its value. It is
written before anything else of the run, written anew every five minutes, and taken off after everything else. So
whatever names a run that has no claim is what an ended run could not remove, and a claim that nobody renews belongs
to a run that died. Times are those of the pool's master: the clocks of two machines that back up need not agree.

Two keys take turns: the old one goes when the new one is there, nobody ever sees a living run without a claim. It is
on the VM, not on the pool, because the role that backs up VMs may write there. Snapshots copy it; only that of a VM
that is no snapshot counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xobackup.clock import utc
from xobackup.engine import keys
from xobackup.engine.active import Active, marked_active
from xobackup.xapi.errors import NotFound, ProtocolError, XapiError
from xobackup.xapi.other_config import set_key
from xobackup.xapi.values import format_time, parse_time

if TYPE_CHECKING:
    from pathlib import Path

    from xobackup.xapi.session import Session

BEAT_S = 300.0
STALE_S = 3600.0
"""Twelve beats: a run that was cut off that long has lost its transfers anyway."""
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A claim as read from a VM. ``beat_s``: when it was last renewed, by the pool's clock; ``None``: unreadable."""

    run_id: str
    job_id: str
    host: str
    pid: int
    kind: str
    beat_s: float | None

    def age_s(self, now_s: float) -> float | None:
        return None if self.beat_s is None else now_s - self.beat_s

    def is_fresh(self, now_s: float) -> bool:
        """Whether its run may be alive. One that cannot be read, or is of the future, might be anybody's."""
        age = self.age_s(now_s)
        return age is None or age < STALE_S


def pool_time_s(session: Session) -> float:
    """The master's time of day: what the ages of claims are measured with."""
    pool = next(iter(session.records("pool").values()), {})
    moment = parse_time(session.call("host.get_servertime", pool.get("master", "")))
    if moment is None:
        raise ProtocolError("host.get_servertime", "expected a time")
    return moment.timestamp()


def text_of(active: Active, now_s: float) -> str:
    """The value of a claim's key."""
    return json.dumps(
        {
            "v": VERSION,
            "beat": format_time(utc(now_s)),
            "job": active.job_id,
            "kind": active.kind,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
    )


def claims_of(other_config: Mapping[str, str]) -> dict[str, Claimed]:
    """The claims on a VM by run; the newer of two keys counts."""
    found: dict[str, Claimed] = {}
    for key, text in other_config.items():
        run_id = keys.run_of_claim(key)
        if not run_id:
            continue
        claimed = _read(run_id, text)
        known = found.get(run_id)
        if known is None or (known.beat_s is not None and (claimed.beat_s is None or claimed.beat_s > known.beat_s)):
            found[run_id] = claimed
    return found


def _read(run_id: str, text: object) -> Claimed:
    fields: dict[str, Any] = {}
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        decoded = json.loads(str(text))
        fields = decoded if isinstance(decoded, dict) else {}
    moment = parse_time(fields.get("beat"))
    pid = fields.get("pid")
    return Claimed(
        run_id=run_id,
        job_id=str(fields.get("job", "")),
        host=str(fields.get("host", "")),
        pid=pid if isinstance(pid, int) else 0,
        kind=str(fields.get("kind", "")),
        beat_s=None if moment is None else moment.timestamp(),
    )


class Claim:
    """One run's claim on one VM; make it with :func:`touching`."""

    def __init__(self, session: Session, active: Active) -> None:
        self._session = session
        self._active = active
        self._vm_ref = ""
        self._turn = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def now(self) -> dict[str, str]:
        """The claim as keys of ``other_config``: for a VM about to be created, and for who writes the whole map."""
        with self._lock:
            key = keys.claim_key(self._active.run_id, self._turn)
            return {key: text_of(self._active, pool_time_s(self._session))}

    def hold(self, vm_ref: str, *, written: bool = False) -> None:
        """Claim the VM from now on; ``written``: it was created with the claim. A VM that is gone needs none."""
        self._vm_ref = vm_ref
        if not written:
            with contextlib.suppress(NotFound):
                self._write(self._turn)
        self._thread = threading.Thread(target=self._beat_on, name="claim", daemon=True)
        self._thread.start()

    def beat(self) -> None:
        """Renew it now. The thread does it; a simulation may."""
        with self._lock:
            if self._stopped.is_set() or not self._vm_ref:
                return
            self._write(self._turn + 1)
            set_key(self._session, "VM", self._vm_ref, keys.claim_key(self._active.run_id, self._turn), None)
            self._turn += 1

    def release(self) -> bool:
        """Take it off; returns whether it is gone."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if not self._vm_ref:
            return True
        try:
            for turn in range(2):
                set_key(self._session, "VM", self._vm_ref, keys.claim_key(self._active.run_id, turn), None)
        except NotFound:
            return True
        except XapiError:
            return False
        return True

    def _write(self, turn: int) -> None:
        text = text_of(self._active, pool_time_s(self._session))
        set_key(self._session, "VM", self._vm_ref, keys.claim_key(self._active.run_id, turn), text)

    def _beat_on(self) -> None:
        while not self._stopped.wait(BEAT_S):
            with contextlib.suppress(XapiError):  # the next one may reach the pool
                self.beat()


@contextmanager
def touching(directory: Path, session: Session, active: Active, vm_ref: str = "") -> Iterator[Claim]:
    """Say here and on the pool that the VM is being worked on while inside; ``vm_ref`` may come later.

    When the pool cannot be told that it is over, the mark on this machine stays: the next start cleans up at once.
    """
    with marked_active(directory, active) as mark:
        claim = Claim(session, active)
        try:
            if vm_ref:
                claim.hold(vm_ref)
            yield claim
        finally:
            if not claim.release():
                mark.keep()
