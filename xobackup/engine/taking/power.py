"""One VM shut down for its backup and started again, in one attempt.

Order: the key on the VM, the shutdown; later the start, the key away (:mod:`xobackup.engine.taking.owed`). The wait
for the guest is bounded. One that does not follow is refused, never switched off, unless the job allows that; because
it was asked, it may still go down a little later: it is watched for a moment, and started again then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from xobackup.engine import events, keys
from xobackup.engine.errors import VmRefused
from xobackup.engine.taking.owed import (
    ShutdownMark,
    StartFailed,
    StillGoingDown,
    mark_of,
    start,
    start_time,
    wait_until_settled,
)
from xobackup.xapi.errors import NotFound, XapiError, XapiFailure
from xobackup.xapi.other_config import set_key

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.context import RunContext
    from xobackup.engine.view import VmView

FOLLOW_S = 30.0
"""How long a guest that did not shut down in time is watched: it may still do so."""
_ASKED = frozenset({"TASK_CANCELLED", "VM_SHUTDOWN_TIMEOUT"})
"""Failures of a shutdown after which the guest may go down all the same."""
START_TRIES = 3
START_PAUSE_S = 10.0


class PowerCycle:
    """One attempt's. ``owed``: the VM was asked to shut down and has not been started since."""

    def __init__(
        self, context: RunContext, look: Callable[[], VmView], *, cancel: CancelToken, warn: Callable[[str], None]
    ) -> None:
        """``look`` gives the VM as last seen."""
        self._context = context
        self._session = context.session
        self._look = look
        self._cancel = cancel
        self._warn = warn
        self._down = False
        self._refused = False
        """The pool said that the guest will not: no need to watch it."""
        self._since_s = 0.0
        self.owed = False
        self.downtime_s = 0.0

    @property
    def _vm(self) -> VmView:
        return self._look()

    def shut_down(self) -> None:
        """Returns when the VM is halted. Raises :class:`VmRefused` when its guest does not shut down in time."""
        clock = self._context.world.clock
        self._since_s = clock.monotonic_s()
        self._promise()
        try:
            self._ask()
        except XapiError as error:
            self._judge(error)
        self._down = True
        self._cancel.check()
        took_s = clock.monotonic_s() - self._since_s
        self._context.world.journal.write(events.VmShutDown(vm=self._vm.uuid, duration_s=took_s))

    def adopt(self) -> None:
        """The VM went down after an earlier attempt of this run had given up waiting: it is owed its start all the
        same."""
        mark = mark_of(self._vm.other_config, self._vm.uuid)
        if mark is not None and mark.run_id == self._context.run_id and self._vm.power_state == "Halted":
            self._since_s = self._context.world.clock.monotonic_s()
            self.owed = self._down = True

    def start_again(self) -> None:
        """Start the VM, if it is owed that; takes the key away. It stays when it cannot be started now
        (:class:`StartFailed`), or when nobody knows yet whether it will need it."""
        if not self.owed:
            return
        try:
            state = self._follow()
            if state == "Halted":
                self._start()
            elif not self._down and not self._refused:
                self._warn(
                    "its guest was asked to shut down and runs on; if it goes down later, the next run starts it"
                )
                self.give_up()
                return
            set_key(self._session, "VM", self._vm.ref, keys.SHUTDOWN, None)
        except NotFound:
            self._warn("it was deleted while it was shut down for its backup")
        except XapiError as error:
            raise StartFailed(error) from error
        except StillGoingDown as error:
            self._warn(f"{error}; the next run looks again")
            self.give_up()
            return
        self.owed = False

    def give_up(self) -> None:
        """Leave the key to the next start of any run."""
        self.owed = False

    def _promise(self) -> None:
        mark = ShutdownMark(
            run_id=self._context.run_id,
            job_id=self._context.job.id,
            vm_uuid=self._vm.uuid,
            started=start_time(self._session, self._vm.ref),
        )
        self.owed = True
        set_key(self._session, "VM", self._vm.ref, keys.SHUTDOWN, str(mark))

    def _ask(self) -> None:
        self._cancel.check()
        self._session.call_async(
            "VM.clean_shutdown",
            self._vm.ref,
            timeout_s=self._context.job.settings.shutdown_wait_s,
            should_stop=lambda: self._cancel.cancelled,
        )

    def _judge(self, error: XapiError) -> None:
        """The shutdown did not end well, or nobody saw its end: what is the VM now?"""
        state = wait_until_settled(self._session, self._vm.ref)
        code = error.code if isinstance(error, XapiFailure) else ""
        self._refused = bool(code) and code not in _ASKED
        if code == "VM_BAD_POWER_STATE" and state == "Halted":
            set_key(self._session, "VM", self._vm.ref, keys.SHUTDOWN, None)
            self.owed = False  # somebody else was faster, and wants it halted
            return
        self._cancel.check()
        if state == "Halted":
            return
        why = f"it could not be shut down for its backup: {error}"
        if not self._refused:
            why = f"it did not shut down for its backup within {self._context.job.settings.shutdown_wait_s:g} s"
        if not self._context.job.settings.hard_shutdown_allowed:
            hint = "install the guest tools, raise shutdown_wait_s, or set hard_shutdown_allowed = true"
            raise VmRefused(why, hint=hint) from error
        self._warn(f"{why}; it was switched off")
        self._session.call_async("VM.hard_shutdown", self._vm.ref)

    def _follow(self) -> str:
        """The VM's power state; one that was asked and has not gone down is watched for a while."""
        clock = self._session.clock
        deadline_s = clock.monotonic_s() + FOLLOW_S
        while True:
            state = wait_until_settled(self._session, self._vm.ref)
            if self._down or self._refused or state != "Running" or clock.monotonic_s() >= deadline_s:
                return state
            clock.sleep(self._session.timeouts.poll_s)

    def _start(self) -> None:
        clock = self._context.world.clock
        attempt = 1
        while True:
            try:
                start(self._session, self._vm.ref)
                break
            except StartFailed:
                if attempt >= START_TRIES:
                    raise
                attempt += 1
            clock.sleep(START_PAUSE_S)
        self.downtime_s = clock.monotonic_s() - self._since_s
        self._context.world.journal.write(events.VmStarted(vm=self._vm.uuid, downtime_s=self.downtime_s))
