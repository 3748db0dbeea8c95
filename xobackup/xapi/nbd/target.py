"""Where a pool says that a disk can be read by NBD: ``VDI.get_nbd_info``.

It names, for every host that sees the disk's SR, each address on a network whose purpose is ``nbd`` or
``insecure_nbd``. The export's name contains the session, so it is a secret and ages with it: who connects again asks
again. An empty list means that there is no NBD, which is no error.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from xobackup.xapi.errors import BadRecord, clean_text
from xobackup.xapi.nbd.errors import NbdNotOffered
from xobackup.xapi.nbd.protocol import NAME_BYTES_MAX, PORT

if TYPE_CHECKING:
    from xobackup.xapi.session import Session
    from xobackup.xapi.vm_records import NetworkRecord

SECURE_PURPOSE = "nbd"
PLAIN_PURPOSE = "insecure_nbd"


class Families(Enum):
    """Which addresses to use."""

    ANY = frozenset({4, 6})
    IPV4 = frozenset({4})
    IPV6 = frozenset({6})


class NbdMode(Enum):
    """How the pool's servers speak, by the purposes of its networks."""

    OFF = "no network has the purpose nbd or insecure_nbd"
    TLS = "TLS is required"
    PLAIN = "without TLS: only networks with the purpose insecure_nbd"
    CONFLICT = "networks have both purposes, nbd and insecure_nbd: the hosts close every connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class NbdTarget:
    """One server and the name of the disk there. ``certificate_pem`` empty: without TLS."""

    address: str
    port: int = PORT
    export_name: str = field(default="", repr=False)
    certificate_pem: str = field(default="", repr=False)
    subject: str = ""
    """The name its certificate must be for; empty: any, but that certificate."""

    @property
    def server(self) -> str:
        """For messages, and to know a server again under another export name."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def name_bytes(self) -> bytes:
        return self.export_name.encode("utf-8", "replace")


TargetSource = Callable[[], Sequence[NbdTarget]]
"""Gives the servers anew, with names that are valid now."""


def parse_nbd_info(found: Any, *, vdi: str, families: Families = Families.ANY) -> list[NbdTarget]:
    """The answer of ``VDI.get_nbd_info``: IPv4 first, otherwise in the pool's order, no server twice."""
    if not isinstance(found, list):
        raise BadRecord("VDI", vdi, f"NBD servers: expected a list, found {type(found).__name__}")
    targets = {target.server: target for target in (_target(item, vdi) for item in found)}
    chosen = [target for target in targets.values() if _family(target.address) in families.value]
    return sorted(chosen, key=lambda target: _family(target.address))


def get_nbd_info(session: Session, vdi_ref: str, *, families: Families = Families.ANY) -> list[NbdTarget]:
    """The servers of a VDI now; empty when the pool offers none. Raises :class:`FullNeeded` for ``cbt_metadata``."""
    return parse_nbd_info(session.call("VDI.get_nbd_info", vdi_ref), vdi=vdi_ref, families=families)


def target_source(session: Session, vdi_ref: str, *, families: Families = Families.ANY) -> TargetSource:
    """Asks the pool each time; raises :class:`NbdNotOffered` when there is no server (any more)."""

    def ask() -> Sequence[NbdTarget]:
        targets = get_nbd_info(session, vdi_ref, families=families)
        if not targets:
            raise NbdNotOffered("pool", f"no server for VDI {vdi_ref} ({families.name})")
        return targets

    return ask


def nbd_mode(networks: Iterable[NetworkRecord]) -> NbdMode:
    """How the pool's servers speak."""
    purposes = {purpose for network in networks for purpose in network.purpose}
    secure, plain = SECURE_PURPOSE in purposes, PLAIN_PURPOSE in purposes
    if secure and plain:
        return NbdMode.CONFLICT
    return NbdMode.TLS if secure else NbdMode.PLAIN if plain else NbdMode.OFF


def _target(item: Any, vdi: str) -> NbdTarget:
    if not isinstance(item, dict):
        raise BadRecord("VDI", vdi, f"NBD server: expected a record, found {type(item).__name__}")
    texts = {}
    for name in ("exportname", "address", "cert", "subject"):
        texts[name] = item.get(name, "")
        if not isinstance(texts[name], str):
            raise BadRecord("VDI", vdi, f"NBD server: {name}: expected text, found {type(item[name]).__name__}")
    port = item.get("port", PORT)
    if isinstance(port, bool) or not str(port).isascii() or not str(port).isdigit() or not 0 < int(port) < 65536:
        raise BadRecord("VDI", vdi, f"NBD server: expected a port, found {clean_text(repr(port))[:40]}")
    if not texts["address"] or not 0 < len(texts["exportname"].encode("utf-8", "replace")) <= NAME_BYTES_MAX:
        raise BadRecord("VDI", vdi, "NBD server: expected an address and an export name, found none or too long ones")
    return NbdTarget(
        address=texts["address"].strip("[]"),
        port=int(port),
        export_name=texts["exportname"],
        certificate_pem=texts["cert"].strip(),
        subject=texts["subject"],
    )


def _family(address: str) -> int:
    """4 or 6; a name counts as 4."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).version
    except ValueError:
        return 4
