"""Every time limit of the conversation with a pool, by name.

Nothing here bounds a whole transfer: a big disk over a thin line may take days. Silence is what is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds, unless a name says otherwise."""

    connect_s: float = 10.0
    """TCP connect, and again for the TLS handshake. Raise it for satellite links."""
    call_s: float = 300.0
    """The answer to one synchronous call. XAPI queues conflicting operations itself, so a call can take minutes;
    what takes longer belongs into ``call_async``."""
    silent_s: float = 30.0
    """The same from a host that has left a call or a transfer without an answer, until it answers again: what is to
    be tidied up after that must not wait for as long once more, call after call."""
    event_s: float = 30.0
    """How long one ``event.from`` waits on the server before it answers without news."""
    poll_s: float = 2.0
    """Pause between two looks at a task where events do not work, and the granularity of ``should_stop``."""
    task_s: float = 4 * 3600.0
    """An asynchronous call. XAPI itself retries conflicting operations for up to two hours."""
    cancel_s: float = 30.0
    """How long a cancelled task gets to end."""
    first_byte_s: float = 600.0
    """From the request of a transfer to its first byte: the host attaches the disk meanwhile."""
    vm_first_byte_s: float = 1800.0
    """The same for a whole VM: all its disks are attached meanwhile (XO's value too)."""
    idle_s: float = 300.0
    """Silence within a transfer (XO's value too)."""
    drain_s: float = 60.0
    """From the last byte of a transfer to the end of the connection."""
    task_end_s: float = 600.0
    """From the end of a transfer to the end of its task: the host detaches the disk meanwhile."""
    verdict_s: float = 5.0
    """How long the task of a transfer that went wrong gets to say why."""
    boot_s: float = 300.0
    """How long HOST_STILL_BOOTING is waited out."""
    boot_pause_s: float = 5.0
    busy_tries: int = 14
    """How often a busy host or disk is asked: three quarters of a minute in all (XO: 10 x 5 s)."""
    busy_first_s: float = 0.25
    """The first pause, which doubles: the disk of a transfer that has just ended is let go of within a moment."""
    busy_pause_s: float = 5.0
    """The longest pause."""
    reconnect_tries: int = 10
    """How often a call that only reads is repeated after a broken connection (XO's 10 x 1 s)."""
    reconnect_pause_s: float = 1.0
