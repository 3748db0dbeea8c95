"""Storage of a pool: the drivers it knows, repositories with their PBDs, and the trees behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.simpool.image_formats import PREFERRED, knows_format
from xobackup.simpool.storage.space import Files, ThickVolumes
from xobackup.simpool.storage.store import SrStore

if TYPE_CHECKING:
    from pathlib import Path

    from xobackup.simpool.spec import PoolSpec, SrSpec
    from xobackup.simpool.toolstack import Toolstack

VHD_FEATURES = (
    "SR_PROBE",
    "SR_UPDATE",
    "VDI_CREATE",
    "VDI_DELETE",
    "VDI_ATTACH",
    "VDI_DETACH",
    "VDI_CLONE",
    "VDI_SNAPSHOT",
    "VDI_RESIZE",
    "VDI_MIRROR",
    "VDI_GENERATE_CONFIG",
    "VDI_RESET_ON_BOOT",
    "VDI_UPDATE",
    "VDI_CONFIG_CBT",
)
ISO_FEATURES = ("VDI_ATTACH", "VDI_DETACH")
VHD_KINDS = ("ext", "file", "nfs", "smb", "lvm", "lvmoiscsi")
LOCAL_KINDS = frozenset({"ext", "file", "lvm"})
FOREIGN = "simulated-foreign-bytes"
"""The key in a repository's other_config that keeps what else lies there."""
ISO_BYTES = 4 << 20


def build_drivers(toolstack: Toolstack, spec: PoolSpec) -> None:
    """A driver for each kind of repository; those of kinds that shall have qcow2 disks can make them."""
    options = toolstack.options
    online = ("VDI_RESIZE_ONLINE",) if options.resize_online else ()
    known = [name for name in VHD_FEATURES if name != "VDI_CONFIG_CBT" or options.release != "7.1"]
    qcow2 = {one.type for one in spec.srs if knows_format(options.release, "qcow2") and "qcow2" in one.formats}
    for kind in VHD_KINDS:
        _driver(toolstack, kind, (*known, *online), ("vhd", "qcow2") if kind in qcow2 else ("vhd",))
    _driver(toolstack, "iso", ISO_FEATURES)


def _driver(toolstack: Toolstack, kind: str, features: tuple[str, ...], formats: tuple[str, ...] = ()) -> None:
    toolstack.database.create(
        "SM",
        {
            "type": kind,
            "name_label": f"Simulated {kind}",
            "vendor": "xobackup",
            "version": "1.0",
            "required_api_version": "1.0",
            "features": dict.fromkeys(features, 1),
            "capabilities": list(features),
            "supported_image_formats": list(formats),
            "driver_filename": f"/opt/xensource/sm/{kind.upper()}SR",
        },
    )


def build_repository(toolstack: Toolstack, spec: SrSpec, hosts: list[str], directory: Path) -> str:
    """A repository, plugged where its specification says; returns its reference."""
    database = toolstack.database
    shared = spec.type not in LOCAL_KINDS
    sr = database.create(
        "SR",
        {
            "name_label": spec.name,
            "type": spec.type,
            "content_type": "iso" if spec.type == "iso" else "user",
            "shared": shared,
            "physical_size": spec.physical_size,
            "other_config": {FOREIGN: str(spec.foreign_bytes)} if spec.foreign_bytes else {},
            "allowed_operations": ["scan", "update", "vdi_create", "vdi_destroy", "vdi_clone", "vdi_snapshot"],
        },
    )
    plugged = spec.hosts if spec.hosts is not None else range(len(hosts)) if shared else (0,)
    for index in plugged:
        config = {"location": f"simulated:/{spec.name}"} if shared else {"device": "/dev/simulated"}
        if spec.formats:
            config[PREFERRED] = ",".join(spec.formats)
        record = {"host": hosts[index], "SR": sr, "device_config": config, "currently_attached": True}
        database.create("PBD", record)
    if spec.type == "iso":
        _image(toolstack, sr)
    else:
        open_store(toolstack, sr, directory)
    return sr


def open_store(toolstack: Toolstack, sr: str, directory: Path) -> None:
    """Open the trees of a repository whose record exists."""
    record = toolstack.database.get("SR", sr)
    toolstack.stores[sr] = SrStore(
        directory / record["uuid"],
        physical_size=record["physical_size"],
        clock=toolstack.clock,
        rng=toolstack.rng,
        on_write=toolstack.change_logs.written,
        space=ThickVolumes() if record["type"].startswith("lvm") else Files(),
        foreign_bytes=int(record["other_config"].get(FOREIGN, "0")),
    )
    snapshots = toolstack.database.where("VDI", SR=sr, is_a_snapshot=True)
    toolstack.stores[sr].deflated.update(disk["uuid"] for _, disk in snapshots)


def _image(toolstack: Toolstack, sr: str) -> None:
    toolstack.database.create(
        "VDI",
        {
            "SR": sr,
            "name_label": "installer.iso",
            "location": "installer.iso",
            "virtual_size": ISO_BYTES,
            "physical_utilisation": ISO_BYTES,
            "type": "user",
            "read_only": True,
            "managed": True,
        },
    )
