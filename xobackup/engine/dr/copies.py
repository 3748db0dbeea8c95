"""A VM made of a restore point: a clone, so that the replica and its restore points stay as they are.

It has a temporary name until it is whole: what dies before leaves what the next start removes
(:func:`xobackup.engine.replication.settle.unfinished_run`). The marks come before the name, the name last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xobackup.engine import keys
from xobackup.engine.dr.plan import OURS
from xobackup.engine.replication.marks import BLOCKED, UNFINISHED_TEXT
from xobackup.engine.replication.settle import block, ordinary, take_back
from xobackup.engine.restore.records import clean_config, vif_record
from xobackup.engine.taking.taken import vdis_of
from xobackup.xapi.errors import XapiError, XapiFailure
from xobackup.xapi.other_config import set_key

if TYPE_CHECKING:
    from xobackup.engine.leftovers.claim import Claim
    from xobackup.engine.replication.points import ReplicaPoint
    from xobackup.xapi.session import Session

JOB = "dr"
"""Stands for the job in temporary names."""
OWN_START = "auto_poweron"
Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dress:
    """What the copy is to be. ``network``: all NICs there with new addresses; ``""``: as the restore point's, with
    its addresses; ``None``: no NICs."""

    name: str
    network: str | None
    disk_marks: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    """More than its own."""
    ha: str = ""
    auto_start: bool = False


def make_copy(
    session: Session,
    point: ReplicaPoint,
    dress: Dress,
    *,
    run_id: str,
    claim: Claim,
    marks: Callable[[str], Mapping[str, str]],
    warn: Warn,
) -> str:
    """Returns the VM's reference. ``marks``: for its other_config, from its uuid. What fails leaves nothing, as far
    as the pool allows."""
    ref = str(session.call_async("VM.clone", point.ref, keys.temporary_name(JOB, run_id)))
    try:
        config = _config(session, ref)
        session.call("VM.set_other_config", ref, {**config, keys.RUN: run_id, **claim.now()})
        claim.hold(ref, written=True)
        block(session, ref, UNFINISHED_TEXT)
        ordinary(session, ref)
        for vdi_ref, vdi in vdis_of(session, ref).items():
            content_key = vdi["other_config"].get(keys.CONTENT_KEY, "")
            kin = {keys.KIN: content_key} if content_key else {}
            of_disk = {**clean_config(vdi["other_config"]), **kin, **dress.disk_marks}
            session.call("VDI.set_other_config", vdi_ref, of_disk)
        _nics(session, ref, point, dress.network)
        _describe(session, ref, dress, warn)
        uuid = str(session.call("VM.get_uuid", ref))
        own = {OWN_START: "true"} if dress.auto_start else {}
        config = {key: text for key, text in config.items() if key != OWN_START}
        session.call("VM.set_other_config", ref, {**config, **own, **marks(uuid), **claim.now()})
        for operation in BLOCKED:
            set_key(session, "VM", ref, operation, None, field="blocked_operations")
        session.call("VM.update_allowed_operations", ref)
        session.call("VM.set_name_label", ref, dress.name)
    except BaseException:
        with contextlib.suppress(XapiError):  # the next start does it
            take_back(session, run_id, refs=[ref], disks=[])
        raise
    return ref


def _config(session: Session, ref: str) -> dict[str, str]:
    """Without the marks of backups and replicas."""
    config = clean_config(session.call("VM.get_other_config", ref))
    return {key: text for key, text in config.items() if key != keys.REPLICA}


def _nics(session: Session, ref: str, point: ReplicaPoint, network: str | None) -> None:
    """A clone has the restore point's networks, but addresses of its own."""
    for vif_ref in session.call("VM.get_VIFs", ref):
        session.call("VIF.destroy", vif_ref)
    if network is None:
        return
    for vif_ref in session.call("VM.get_VIFs", point.ref):
        vif: dict[str, Any] = session.record("VIF", vif_ref)
        record = vif_record(vif, network=network or str(vif["network"]), new_mac=bool(network))
        session.call("VIF.create", {**record, "VM": ref})


def _describe(session: Session, ref: str, dress: Dress, warn: Warn) -> None:
    tags = [tag for tag in session.call("VM.get_tags", ref) if tag not in OURS]
    session.call("VM.set_tags", ref, [*tags, *dress.tags])
    try:
        session.call("VM.set_ha_restart_priority", ref, dress.ha)
    except XapiFailure as error:
        warn(f"HA could not be set to {dress.ha!r}: {error}")
