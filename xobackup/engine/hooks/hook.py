"""What a job wants to be run around its backups. Only data.

The moments of a run, in their order::

    before-run
        per VM:  before-snapshot   after-snapshot   on-failure   after-vm
    on-failure   (for the run: a pool, a remote or a hook that concerns no single VM)
    after-run

``before-snapshot`` and ``after-snapshot`` belong together: once the first has begun, the second is run, whatever
happens in between, because it thaws what was frozen. So do ``before-run`` and ``after-run``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit


class When(StrEnum):
    """The moments."""

    BEFORE_RUN = "before-run"
    AFTER_RUN = "after-run"
    BEFORE_SNAPSHOT = "before-snapshot"
    AFTER_SNAPSHOT = "after-snapshot"
    AFTER_VM = "after-vm"
    ON_FAILURE = "on-failure"

    @property
    def before(self) -> bool:
        """Its failure can keep something from happening."""
        return self in (When.BEFORE_RUN, When.BEFORE_SNAPSHOT)


class IfItFails(StrEnum):
    """What a hook's failure means for the VM, or for the run where it belongs to none."""

    STOP = "stop"
    """A failure of that too."""
    WARN = "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """Either a ``command`` (a list of arguments, run without a shell) or a ``url`` (the facts are posted to it)."""

    on: When
    command: tuple[str, ...] = ()
    url: str = field(default="", repr=False)
    """May hold a secret; :attr:`label` is what is shown."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    ca: Path | None = None
    """Who vouches for the URL's server, instead of the system's authorities."""
    timeout_s: float = 60.0
    if_it_fails: IfItFails = IfItFails.WARN

    @property
    def label(self) -> str:
        """For people: the program, or the URL's host. Never a secret."""
        if self.command:
            return self.command[0]
        parts = urlsplit(self.url)
        return f"POST {parts.scheme}://{parts.hostname or ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestHooks:
    """The hook inside guests that carry the tag ``xo:notify-on-snapshot``."""

    allowed: bool = True
    secret: str = field(default="", repr=False)
    """Sent as a bearer token, in base64, over TLS only; ``""``: none."""
    verify: bool = False
    """Guests have certificates of their own making; Xen Orchestra verifies none."""
    ca: Path | None = None
    """Verify, with these authorities."""
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HookResult:
    """How one hook ended. ``error``: ``""`` when it went well."""

    on: str
    hook: str
    vm: str
    duration_s: float
    error: str = ""
    stopped: bool = False
    """Its failure was one of the VM or the run."""

    @property
    def ok(self) -> bool:
        return not self.error


def hook_data(hook: Hook) -> dict[str, object]:
    """As JSON data, without what may be secret."""
    return {
        "on": hook.on.value,
        "hook": hook.label,
        "timeout_s": hook.timeout_s,
        "if_it_fails": hook.if_it_fails.value,
    }
