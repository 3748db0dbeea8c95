"""Which host serves the disks of a storage repository: pure.

An export is asked of the pool's master, which sends it to another host only when it does not see the SR itself; NBD
is offered by every host that sees the SR, the first of them is taken. So: the master, if the SR is plugged there,
else the first host where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host of a pool."""

    uuid: str
    name: str


def serving_hosts(
    *, srs: Mapping[str, Record], pbds: Mapping[str, Record], hosts: Mapping[str, Record], master: str
) -> dict[str, Host]:
    """SR uuid -> the host that serves its disks, from records by reference. SRs that no host sees are left out."""
    found: dict[str, Host] = {}
    for sr_ref, sr in srs.items():
        plugged = [
            str(pbd.get("host"))
            for pbd in pbds.values()
            if pbd.get("SR") == sr_ref and pbd.get("currently_attached") and pbd.get("host") in hosts
        ]
        if plugged:
            ref = master if master in plugged else plugged[0]
            host = hosts[ref]
            found[str(sr.get("uuid", ""))] = Host(
                uuid=str(host.get("uuid", ref)), name=str(host.get("name_label") or ref)
            )
    return found
