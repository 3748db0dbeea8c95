"""May this operation be done on this disk now? xapi's checks in xapi's order; the first that fails wins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.simpool.failures import Failure

if TYPE_CHECKING:
    from xobackup.simpool.database import Database, Record

LIVE = frozenset(
    {
        "snapshot",
        "clone",
        "resize_online",
        "blocked",
        "revert_to",
        "mirror",
        "enable_cbt",
        "disable_cbt",
        "data_destroy",
    }
)
"""Operations allowed on an attached disk."""

FEATURES = {
    "snapshot": "VDI_SNAPSHOT",
    "clone": "VDI_CLONE",
    "destroy": "VDI_DELETE",
    "resize": "VDI_RESIZE",
    "resize_online": "VDI_RESIZE_ONLINE",
    "mirror": "VDI_MIRROR",
    "update": "VDI_UPDATE",
    "generate_config": "VDI_GENERATE_CONFIG",
    "set_on_boot": "VDI_RESET_ON_BOOT",
    "enable_cbt": "VDI_CONFIG_CBT",
    "disable_cbt": "VDI_CONFIG_CBT",
    "data_destroy": "VDI_CONFIG_CBT",
    "list_changed_blocks": "VDI_CONFIG_CBT",
}
"""The storage driver's feature that an operation needs; others need none."""

LISTED = ("clone", "copy", "resize", "resize_online", "snapshot", "destroy", "forget", "update", "generate_config")
"""Operations that ``allowed_operations`` ever shows."""
OF_METADATA = frozenset({"destroy", "data_destroy", "list_changed_blocks", "forget", "update", "generate_config"})
MANAGED_ONLY = frozenset({"destroy", "snapshot", "clone", "copy", "resize"})


def refusal(database: Database, vdi: str, operation: str) -> Failure | None:
    """Why ``operation`` is refused on ``vdi``, or ``None``."""
    record = database.get("VDI", vdi)
    others = {ref: op for ref, op in record["current_operations"].items() if op != "copy"}
    if others:
        task, running = next(iter(others.items()))
        return Failure("OTHER_OPERATION_IN_PROGRESS", "VDI", vdi, running, task)
    sr = record["SR"]
    plugged = any(True for _ in database.where("PBD", SR=sr, currently_attached=True))
    if operation in ("resize", "resize_online") and not plugged:
        return Failure("SR_HAS_NO_PBDS", sr)
    return _attached(database, vdi, record, operation) or _unsupported(database, vdi, record, operation)


def check(database: Database, vdi: str, operation: str) -> None:
    """Raise the refusal, if any."""
    failure = refusal(database, vdi, operation)
    if failure is not None:
        raise failure


def _attached(database: Database, vdi: str, record: Record, operation: str) -> Failure | None:
    vbds = [database.get("VBD", ref) for ref in record["VBDs"]]
    attached = [vbd for vbd in vbds if vbd["currently_attached"]]
    if operation == "copy":
        attached = [vbd for vbd in attached if vbd["mode"] == "RW"]
    if operation == "list_changed_blocks":
        attached = [vbd for vbd in attached if not database.get("VM", vbd["VM"])["is_a_snapshot"]]
    if attached and operation not in LIVE:
        return Failure("VDI_IN_USE", vdi, operation)
    for vbd in vbds:
        for task, running in vbd["current_operations"].items():
            return Failure("OTHER_OPERATION_IN_PROGRESS", "VDI", vdi, running, task)
    return None


def _unsupported(database: Database, vdi: str, record: Record, operation: str) -> Failure | None:
    sr = record["SR"]
    feature = FEATURES.get(operation)
    if feature is not None and feature not in sr_features(database, sr):
        return Failure("SR_OPERATION_NOT_SUPPORTED", sr)
    if record["type"] == "cbt_metadata" and operation not in OF_METADATA:
        return Failure("VDI_INCOMPATIBLE_TYPE", vdi, record["type"])
    if record["cbt_enabled"] and operation in ("mirror", "set_on_boot"):
        return Failure("VDI_CBT_ENABLED", vdi)
    return _special(vdi, record, operation)


def _special(vdi: str, record: Record, operation: str) -> Failure | None:
    if operation in MANAGED_ONLY and not record["managed"]:
        return Failure("VDI_NOT_MANAGED", vdi)
    if operation == "snapshot":
        if record["sharable"]:
            return Failure("VDI_IS_SHARABLE", vdi)
        if record["on_boot"] == "reset":
            return Failure("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION")
        if "copy" in record["current_operations"].values():
            return Failure("OPERATION_NOT_ALLOWED", "Snapshot operation not allowed during copy.")
    if operation == "destroy" and record["type"] == "rrd":
        return Failure("VDI_HAS_RRDS", vdi)
    return None


def sr_features(database: Database, sr: str) -> dict[str, int]:
    """The features of the repository's storage driver."""
    kind = database.get("SR", sr)["type"]
    for _, manager in database.where("SM", type=kind):
        features: dict[str, int] = manager["features"]
        return features
    return {}


def refresh(database: Database, vdi: str) -> None:
    """Recompute ``allowed_operations`` and the host's mark in ``sm_config``."""
    record = database.get("VDI", vdi)
    allowed = [operation for operation in LISTED if refusal(database, vdi, operation) is None]
    config = {key: value for key, value in record["sm_config"].items() if not key.startswith("host_")}
    for ref in record["VBDs"]:
        vbd = database.get("VBD", ref)
        if vbd["currently_attached"] and vbd["type"] != "CD":
            host = database.get("VM", vbd["VM"])["resident_on"]
            key = f"host_{host}"
            config[key] = "RW" if "RW" in (vbd["mode"], config.get(key)) else "RO"
    database.update("VDI", vdi, allowed_operations=allowed, sm_config=config)
