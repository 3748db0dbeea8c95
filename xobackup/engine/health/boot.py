"""The restored VM is made harmless, started, and waited for. All waiting ends at one moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xobackup.engine.health import guest
from xobackup.engine.health.request import CheckFailed
from xobackup.xapi.other_config import set_key, set_keys
from xobackup.xapi.values import is_null

if TYPE_CHECKING:
    from xobackup.engine.world import World
    from xobackup.xapi.session import Session

POLL_S = 0.5
OWN_START = "auto_poweron"
"""Makes a host start the VM when it boots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The VM under test."""

    world: World
    session: Session
    vm_ref: str
    until_s: float
    """By the monotonic clock."""

    def make_harmless(self, *, script: bool) -> None:
        """Neither HA nor a host that boots starts it; the script in the guest is asked."""
        self.session.call("VM.set_ha_restart_priority", self.vm_ref, "")
        set_key(self.session, "VM", self.vm_ref, OWN_START, None)
        asked = {guest.ERROR: None, guest.STATUS: guest.PLANNED if script else None}
        set_keys(self.session, "VM", self.vm_ref, asked, field="xenstore_data")

    def start(self) -> bool:
        """Start it, or resume it where it was suspended; returns whether it was resumed."""
        suspended = bool(self.session.call("VM.get_power_state", self.vm_ref) == "Suspended")
        self.session.call_async(
            "VM.resume" if suspended else "VM.start",
            self.vm_ref,
            False,
            False,
            timeout_s=max(1.0, self.left_s),
            should_stop=lambda: self.world.cancel.cancelled,
        )
        self._wait(lambda: guest.is_running(self.record()), "the VM is not running")
        return suspended

    def wait_for_tools(self, *, advice: str = "a guest without them is checked by a probe and --no-tools") -> None:
        """``advice``: what the failure says to do about a guest that has none."""
        self._wait(
            lambda: guest.is_running(self.record()) and guest.tools_are_up(self.metrics()),
            f"no guest tools have reported ({advice})",
        )

    def wait_for_script(self) -> None:
        def ended() -> bool:
            record = self.record()
            done = guest.script_succeeded(record)
            return guest.is_running(record) and done

        self._wait(ended, "the script in the guest has not ended")

    @property
    def left_s(self) -> float:
        return self.until_s - self.world.clock.monotonic_s()

    def record(self) -> dict[str, Any]:
        return self.session.record("VM", self.vm_ref)

    def metrics(self) -> dict[str, Any] | None:
        ref = self.record().get("guest_metrics")
        return None if ref is None or is_null(ref) else self.session.record("VM_guest_metrics", str(ref))

    def _wait(self, ready: Callable[[], bool], otherwise: str) -> None:
        while True:
            self.world.cancel.check()
            if ready():
                return
            if self.left_s <= 0:
                raise CheckFailed(f"{otherwise} in time")
            self.world.clock.sleep(min(POLL_S, max(0.0, self.left_s)))
