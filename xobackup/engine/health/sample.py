"""Which VMs a sampled health check takes: those not checked for longest, never checked first. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def due(
    vms: Iterable[str], checked_s: Mapping[str, float], *, now_s: float, every_s: float, vms_max: int | None
) -> list[str]:
    """At most ``vms_max`` of ``vms`` (uuids) whose last check is ``every_s`` ago or more, the oldest first.

    A check that lies in the future (a clock was set back) counts as due: else it might never be again.
    """
    found = [
        uuid for uuid in vms if uuid not in checked_s or now_s - checked_s[uuid] >= every_s or checked_s[uuid] > now_s
    ]
    return sorted(found, key=lambda uuid: (checked_s.get(uuid, 0.0), uuid))[:vms_max]
