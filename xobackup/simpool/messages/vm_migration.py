"""VM messages that move a VM's disks to other repositories: storage migration inside the pool.

As with ``VDI.pool_migrate``, every disk that changes its place is a new one there, with its snapshots, without a
change log: what a backup remembers of it is gone. Only hosts of this pool can receive.
"""

from __future__ import annotations

from xobackup.simpool import attach, vm_rules
from xobackup.simpool.failures import Failure
from xobackup.simpool.messages.vdi_moves import move_disk
from xobackup.simpool.registry import Call, message
from xobackup.simpool.toolstack import is_null


@message("host.migrate_receive")
def migrate_receive(call: Call, host: str, network: str, options: dict[str, str] | None = None) -> dict[str, str]:
    """What the sender passes on as ``dest``."""
    del options
    database = call.database
    database.row("network", network)
    if not call.toolstack.is_live(host):
        raise Failure("HOST_OFFLINE", host)
    address = database.get("host", host)["address"]
    scheme = call.toolstack.scheme
    return {
        "host": host,
        "master": f"{scheme}://{database.get('host', call.toolstack.master)['address']}/",
        "SM": f"{scheme}://{address}/services/SM?session_id={call.session}",
        "xenops": f"{scheme}://{address}/services/xenops?session_id={call.session}",
        "session_id": call.session,
    }


@message("VM.assert_can_migrate")
def assert_can_migrate(  # noqa: PLR0917 - the message's own parameters
    call: Call,
    vm: str,
    dest: dict[str, str],
    live: bool,
    vdi_map: dict[str, str],
    vif_map: dict[str, str],
    options: dict[str, str],
    vgpu_map: dict[str, str] | None = None,
) -> None:
    del live, vif_map, options, vgpu_map
    _targets(call, vm, dest, vdi_map)


@message("VM.migrate_send")
def migrate_send(  # noqa: PLR0917 - the message's own parameters
    call: Call,
    vm: str,
    dest: dict[str, str],
    live: bool,
    vdi_map: dict[str, str],
    vif_map: dict[str, str],
    options: dict[str, str],
    vgpu_map: dict[str, str] | None = None,
) -> str:
    """To a host of the pool, with the disks that ``vdi_map`` names; what it does not name must be seen from there."""
    del live, vif_map, options, vgpu_map
    database = call.database
    targets = _targets(call, vm, dest, vdi_map)
    for vdi, sr in targets.items():
        if database.get("VDI", vdi)["SR"] != sr:
            move_disk(call, vdi, sr)
    if database.get("VM", vm)["power_state"] == "Running":
        database.update("VM", vm, resident_on=dest["host"])
    for vbd in database.get("VM", vm)["VBDs"]:
        attach.refresh_vbd(database, vbd)
    vm_rules.refresh(database, vm)
    return vm


def _targets(call: Call, vm: str, dest: dict[str, str], vdi_map: dict[str, str]) -> dict[str, str]:
    """Where each disk goes. Raises what forbids the whole move."""
    database, host = call.database, dest.get("host", "")
    vm_rules.check(database, vm, "migrate_send")
    database.row("host", host)
    if not call.toolstack.is_live(host):
        raise Failure("HOST_OFFLINE", host)
    found: dict[str, str] = {}
    for vbd in database.get("VM", vm)["VBDs"]:
        record = database.get("VBD", vbd)
        if record["type"] == "CD" or is_null(record["VDI"]):
            continue
        vdi = record["VDI"]
        sr = str(vdi_map.get(vdi, database.get("VDI", vdi)["SR"]))
        database.row("SR", sr)
        if host not in call.toolstack.hosts_of_sr(sr):
            raise Failure("VM_REQUIRES_SR", vm, sr)
        found[vdi] = sr
    return found
