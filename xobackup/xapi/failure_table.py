"""What each of XAPI's failure codes means for a client: what is done about it, and what the operator can do.

docs/errors.md shows the same table; tests compare the two, and both with XAPI's own list of codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from xobackup.xapi import errors
from xobackup.xapi.errors import XapiFailure


class Action(StrEnum):
    """What is done about a failure."""

    RELOGIN = "relogin"
    """A new session, once, and the call again."""
    FOLLOW = "follow"
    """The call again at the master."""
    WAIT = "wait"
    """Again after a pause, a bounded number of times."""
    FULL = "full"
    """A full instead of the delta, said with its reason."""
    GONE = "gone"
    """Done, when it was to be deleted; a full, when it was the base; else the VM fails."""
    PROBE = "probe"
    """The host is older: the older form of the call, or without."""
    OPERATOR = "operator"
    """The VM fails; somebody has to act."""
    INVESTIGATE = "investigate"
    """The VM fails and nothing is repeated blindly: the host's logs say more."""
    OURS = "ours"
    """The client deals with it, or it is a bug of this program."""


ACTION_OF: dict[type[XapiFailure], Action] = {
    errors.SessionInvalid: Action.RELOGIN,
    errors.HostIsSlave: Action.FOLLOW,
    errors.Busy: Action.WAIT,
    errors.FullNeeded: Action.FULL,
    errors.NotFound: Action.GONE,
    errors.NotSupported: Action.PROBE,
    errors.LoginError: Action.OPERATOR,
    errors.OutOfSpace: Action.OPERATOR,
    errors.OperatorProblem: Action.OPERATOR,
    errors.HostTrouble: Action.INVESTIGATE,
    errors.DuplicateKey: Action.OURS,
    errors.Cancelled: Action.OURS,
    XapiFailure: Action.INVESTIGATE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a failure code means for a client."""

    cls: type[XapiFailure]
    hint: str
    params: tuple[str, ...] = ()
    """Names of the parameters, for the sentence."""
    action: Action

    @property
    def transient(self) -> bool:
        """Whether the same call can succeed a little later."""
        return self.action is Action.WAIT


def _of(cls: type[XapiFailure], *rows: tuple[str, str, str], action: Action | None = None) -> dict[str, Meaning]:
    """Rows of code, names of parameters (comma separated), hint."""
    act = ACTION_OF[cls] if action is None else action
    return {
        code: Meaning(cls=cls, hint=hint, params=tuple(filter(None, params.split(", "))), action=act)
        for code, params, hint in rows
    }


_SESSION = {
    **_of(errors.SessionInvalid, ("SESSION_INVALID", "session", "none needed: it logs in again")),
    **_of(errors.SessionInvalid, ("SESSION_NOT_REGISTERED", "session", "none needed: it logs in again")),
    **_of(errors.HostIsSlave, ("HOST_IS_SLAVE", "master", "none needed: it goes on at the pool's master")),
}

_WAIT = _of(
    errors.Busy,
    ("HOST_STILL_BOOTING", "", "the host's toolstack is starting; wait for it"),
    ("VDI_IN_USE", "VDI, operation", "something still holds the disk; see its VBDs"),
    (
        "OTHER_OPERATION_IN_PROGRESS",
        "class, object, operation, task",
        "wait for the other operation, or cancel its task",
    ),
    ("TOO_MANY_PENDING_TASKS", "", "the host has too many tasks; lower the job's concurrency"),
    ("TOO_MANY_STORAGE_MIGRATES", "number", "wait for storage migrations to end"),
    ("TOO_BUSY", "", "the host is overloaded; lower the job's concurrency"),
    ("CANNOT_CONTACT_HOST", "host", "check that host and its network"),
    ("HOST_OFFLINE", "host", "check that host and its network"),
    ("SR_DEVICE_IN_USE", "", "another operation holds the SR's device; wait for it"),
    ("DEVICE_DETACH_TIMEOUT", "type, ref", "the guest or host did not let go of the disk in time; see its VBDs"),
    ("DEVICE_ATTACH_TIMEOUT", "type, ref", "the disk could not be attached in time; check the SR"),
)

_FULL = {
    **_of(
        errors.FullNeeded,
        ("VDI_INCOMPATIBLE_TYPE", "VDI, type", "none needed: the base has no data any more, a full is made"),
        ("VDI_NO_CBT_METADATA", "VDI", "none needed: the disk has no record of changes, another way is taken"),
    ),
    **_of(
        errors.NotFound,
        ("HANDLE_INVALID", "class, ref", "it was deleted meanwhile; run again, which looks anew"),
        ("UUID_INVALID", "class, uuid", "it is not in this pool (any more): check the uuid"),
        ("OBJECT_NOLONGER_EXISTS", "", "it was deleted meanwhile; run again, which looks anew"),
    ),
}

_OPERATOR = {
    **_of(
        errors.LoginError,
        ("SESSION_AUTHENTICATION_FAILED", "user, message", "check the pool's username and password"),
        ("SESSION_AUTHORIZATION_FAILED", "user, message", "give that user a role in the pool"),
        ("HOST_IN_EMERGENCY_MODE", "", "the host does not find its master; repair the pool"),
    ),
    **_of(
        errors.OutOfSpace,
        ("SR_FULL", "requested, maximum", "free space on the SR"),
        ("SR_SOURCE_SPACE_INSUFFICIENT", "SR", "free space on the SR"),
        ("SR_SUSPEND_SPACE_INSUFFICIENT", "SR", "free space on the SR for suspend images"),
        ("OUT_OF_SPACE", "location", "free space there"),
    ),
    **_of(
        errors.OperatorProblem,
        # rights and licences
        ("LICENCE_RESTRICTION", "feature", "the host's licence lacks this feature"),
        ("LICENSE_RESTRICTION", "feature", "the host's licence lacks this feature"),
        ("LICENSE_EXPIRED", "", "renew the host's licence"),
        ("FEATURE_RESTRICTED", "", "the host's licence lacks this feature"),
        ("RBAC_PERMISSION_DENIED", "permission, message", "give the user the role pool-admin or vm-admin"),
        ("PERMISSION_DENIED", "message", "give the user the role pool-admin or vm-admin"),
        # storage
        ("SR_NOT_ATTACHED", "SR", "plug the SR's PBD"),
        ("SR_HAS_NO_PBDS", "SR", "connect the SR to a host"),
        ("SR_HAS_PBD", "SR", "unplug and forget the SR's PBDs first"),
        ("SR_ATTACH_FAILED", "SR", "check the SR's storage and network, then plug its PBD"),
        ("SR_UNKNOWN_DRIVER", "driver", "install the storage driver on every host"),
        ("SR_OPERATION_NOT_SUPPORTED", "SR", "this kind of SR cannot do it; move the disk to another SR"),
        ("SR_NOT_EMPTY", "", "the SR still has disks"),
        ("VDI_MISSING", "SR, VDI", "scan the SR; the disk's data is gone"),
        ("VDI_LOCATION_MISSING", "SR, location", "scan the SR; the disk's data is gone"),
        ("VDI_NOT_AVAILABLE", "VDI", "check that its SR is plugged where the VM runs, and scan the SR"),
        ("VDI_TOO_LARGE", "VDI, maximum", "VHD export ends at 2040 GiB; exclude the disk or let it be read by NBD"),
        ("VDI_TOO_SMALL", "VDI, minimum", "choose a disk at least that big"),
        ("VDI_READONLY", "VDI", "choose a disk that may be written"),
        ("VDI_NOT_MANAGED", "VDI", "an internal node of the SR cannot be used; choose the disk itself"),
        ("VDI_NOT_SPARSE", "VDI", "copy the disk to an SR with VHD or qcow2 disks"),
        ("VDI_IS_ENCRYPTED", "VDI", "make its key available to the host"),
        ("VDI_IS_A_PHYSICAL_DEVICE", "VDI", "physical devices cannot be backed up; exclude it ([NOBAK])"),
        ("VDI_IS_SHARABLE", "VDI", "shared disks cannot be snapshotted; exclude it ([NOBAK])"),
        ("VDI_IS_NOT_ISO", "VDI, type", "choose an ISO image"),
        ("VDI_HAS_RRDS", "VDI", "the pool keeps its statistics there; choose another disk"),
        ("VDI_CBT_ENABLED", "VDI", "disable changed block tracking of the disk first"),
        ("VDI_NEEDS_VM_FOR_MIGRATE", "VDI", "migrate the disk along with its VM"),
        ("VDI_NOT_IN_MAP", "VDI", "name a destination SR for the disk"),
        ("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION", "", "a disk resets on boot; exclude it ([NOBAK])"),
        ("LOCATION_NOT_UNIQUE", "SR, location", "scan the SR; two disks claim the same place"),
        # power, blocks, other work
        ("VM_BAD_POWER_STATE", "VM, expected, found", "bring the VM into the expected power state"),
        ("OPERATION_BLOCKED", "VM, reason", "see the VM's blocked_operations"),
        ("OPERATION_NOT_ALLOWED", "reason", "see the reason; if it is passing, run again"),
        ("NOT_SUPPORTED_DURING_UPGRADE", "", "finish the rolling pool upgrade"),
        ("VM_IS_PROTECTED", "VM", "take the VM out of high availability first"),
        ("HA_IS_ENABLED", "", "high availability holds it; disable that first"),
        ("VM_IS_TEMPLATE", "VM, operation", "templates cannot do this; deselect it"),
        ("VM_IS_SNAPSHOT", "VM, operation", "snapshots cannot do this; choose the VM itself"),
        ("ONLY_REVERT_SNAPSHOT", "", "choose a snapshot"),
        ("ONLY_PROVISION_TEMPLATE", "", "choose a template"),
        ("VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", "VM, error", "use an ordinary snapshot"),
        ("VM_SNAPSHOT_FAILED", "VM", "see /var/log/xensource.log and SMlog on the host"),
        ("VM_HAS_TOO_MANY_SNAPSHOTS", "VM", "delete old snapshots of the VM"),
        # suspending
        ("VM_NO_SUSPEND_SR", "VM", "set the pool's SR for suspend images"),
        ("VM_LACKS_FEATURE", "VM", "install the guest tools"),
        ("VM_MISSING_PV_DRIVERS", "VM", "install the guest tools"),
        ("VM_NON_SUSPENDABLE", "VM, reason", "back it up without its memory"),
        ("VM_IS_IMMOBILE", "VM", "back it up without its memory (nested virtualization, or marked immobile)"),
        ("VM_HAS_VGPU", "VM", "back it up without its memory, or halt it"),
        ("VM_HAS_PCI_ATTACHED", "VM", "back it up without its memory, or halt it"),
        ("VM_HAS_VUSBS", "VM", "back it up without its memory, or detach its USB devices"),
        ("VM_CHECKPOINT_SUSPEND_FAILED", "VM", "back it up without its memory; see /var/log/xensource.log"),
        ("VM_CHECKPOINT_RESUME_FAILED", "VM", "look at the VM at once: it may stand still; resume it"),
        ("VM_REVERT_FAILED", "VM, snapshot", "see /var/log/xensource.log on the host"),
        # hosts and starting
        ("NO_HOSTS_AVAILABLE", "", "no host can run it: memory, SR or network is missing"),
        ("HOST_NOT_ENOUGH_FREE_MEMORY", "needed, available", "free memory on the host, or start it elsewhere"),
        ("HOST_DISABLED", "host", "enable the host"),
        ("VM_REQUIRES_SR", "VM, SR", "plug that SR on the host"),
        ("VM_REQUIRES_NETWORK", "VM, network", "give the host that network"),
        ("MEMORY_CONSTRAINT_VIOLATION", "constraint", "correct the VM's memory limits"),
        (
            "MEMORY_CONSTRAINT_VIOLATION_ORDER",
            "",
            "correct the VM's memory limits: static minimum <= dynamic minimum <= dynamic maximum <= static maximum",
        ),
        ("VTPM_MAX_AMOUNT_REACHED", "amount", "the VM already has a virtual TPM"),
        # devices, networks, imports
        ("DEVICE_DETACH_REJECTED", "type, ref, message", "the guest holds on to the disk: unmount it there"),
        ("DEVICE_ALREADY_EXISTS", "device", "the VM already has a disk with that number"),
        ("INVALID_DEVICE", "device", "choose a number that the VM allows"),
        ("VBD_NOT_EMPTY", "VBD", "eject what is in the drive"),
        ("VBD_IS_EMPTY", "VBD", "the drive is empty: nothing to do there"),
        ("VBD_CDS_MUST_BE_READONLY", "", "CD drives can only be read"),
        ("VBD_NOT_UNPLUGGABLE", "VBD", "shut the VM down to detach that disk"),
        ("MAC_INVALID", "MAC", "correct the interface's MAC address, or restore with new ones"),
        ("MAC_STILL_EXISTS", "MAC", "restore with new MAC addresses"),
        ("DUPLICATE_MAC_SEED", "seed", "restore with new MAC addresses"),
        ("DUPLICATE_VM", "VM", "the VM still exists: delete it first, or restore as a new one"),
        (
            "NETWORK_INCOMPATIBLE_PURPOSES",
            "new_purpose, conflicting_purpose",
            "remove the other purpose from the pool's networks first",
        ),
        ("IMPORT_ERROR_ATTACHED_DISKS_NOT_FOUND", "", "the VM's disks must be on the pool first"),
        ("IMPORT_INCOMPATIBLE_VERSION", "", "import it into a pool of the same or a newer version"),
        ("RESTORE_INCOMPATIBLE_VERSION", "", "restore it into a pool of the same version"),
        ("RESTORE_TARGET_MISSING_DEVICE", "device", "the master lacks a network interface that the dump names"),
        ("RESTORE_TARGET_MGMT_IF_NOT_IN_BACKUP", "", "give the master a management interface of the dump"),
        ("IMPORT_ERROR_FAILED_TO_FIND_OBJECT", "id", "the archive is not whole: verify it, use another one"),
        ("IMPORT_ERROR_SOME_CHECKSUMS_FAILED", "", "the archive is damaged: verify it, use another one"),
        ("IMPORT_ERROR_UNEXPECTED_FILE", "expected, found", "the archive is damaged: verify it, use another one"),
        ("SSL_VERIFY_ERROR", "reason", "the other pool's certificate is not trusted: install its CA"),
        ("XENAPI_MISSING_PLUGIN", "name", "install that plugin on the host"),
    ),
}

_PROBE = _of(
    errors.NotSupported,
    ("MESSAGE_METHOD_UNKNOWN", "method", "update the host if you need this"),
    ("MESSAGE_PARAMETER_COUNT_MISMATCH", "method, expected, found", "update the host if you need this"),
    ("MESSAGE_REMOVED", "", "this host is newer than the call; update xobackup"),
    ("MESSAGE_DEPRECATED", "", "this host is newer than the call; update xobackup"),
    ("NOT_IMPLEMENTED", "function", "update the host if you need this"),
    ("UNIMPLEMENTED_IN_SM_BACKEND", "message", "this kind of SR cannot do it; move the disk to another SR"),
)

_LOGS = "see /var/log/xensource.log and SMlog on the host"
_INVESTIGATE = _of(
    errors.HostTrouble,
    ("INTERNAL_ERROR", "message", _LOGS),
    ("VDI_IO_ERROR", "message", f"check the SR's storage; {_LOGS}"),
    ("VDI_COPY_FAILED", "", _LOGS),
    ("VDI_CONTENT_ID_MISSING", "", _LOGS),
    ("MIRROR_FAILED", "VDI", _LOGS),
    ("IMPORT_ERROR", "message", _LOGS),
    ("IMPORT_ERROR_PREMATURE_EOF", "", "the stream ended too early: check the network, then try again"),
    ("XENAPI_PLUGIN_FAILURE", "status, stdout, stderr", "see the plugin's output, and /var/log/xensource.log"),
    ("SR_BACKEND_FAILURE", "status, stdout, stderr", "see SMlog on the host"),
    ("SM_PLUGIN_COMMUNICATION_FAILURE", "SR", "see SMlog on the host"),
    ("BACKUP_SCRIPT_FAILED", "log", "see the log in the message"),
    ("RESTORE_SCRIPT_FAILED", "log", "see the log in the message"),
    ("CLIENT_ERROR", "message", _LOGS),
    ("DOMAIN_BUILDER_ERROR", "function, code, message", _LOGS),
)

_REPORT = "this is a bug of xobackup, please report it"
_OURS = {
    **_of(errors.DuplicateKey, ("MAP_DUPLICATE_KEY", "class, field, ref, key", "another program set it; run again")),
    **_of(errors.Cancelled, ("TASK_CANCELLED", "task", "somebody, or this program, cancelled it")),
    **_of(
        XapiFailure,
        ("EVENTS_LOST", "", "none needed: it looks at the records instead"),
        ("EVENT_FROM_TOKEN_PARSE_FAILURE", "token", "none needed: it looks at the records instead"),
        ("EVENT_SUBSCRIPTION_PARSE_FAILURE", "subscription", "none needed: it looks at the records instead"),
        ("DEVICE_ALREADY_ATTACHED", "device", "none needed: it is as it should be"),
        ("DEVICE_ALREADY_DETACHED", "device", "none needed: it is as it should be"),
        ("VALUE_NOT_SUPPORTED", "field, value, reason", _REPORT),
        ("INVALID_VALUE", "field, value", _REPORT),
        ("FIELD_TYPE_ERROR", "field", _REPORT),
        ("DB_UNIQUENESS_CONSTRAINT_VIOLATION", "table, field, value", _REPORT),
        ("IMPORT_ERROR_CANNOT_HANDLE_CHUNKED", "", _REPORT),
        action=Action.OURS,
    ),
}

MEANINGS: dict[str, Meaning] = {**_SESSION, **_WAIT, **_FULL, **_OPERATOR, **_PROBE, **_INVESTIGATE, **_OURS}
"""By code; those of storage backends are in :mod:`xobackup.xapi.sm_failures`."""

OTHER = Meaning(cls=XapiFailure, hint=_LOGS, action=Action.INVESTIGATE)
"""Any code that is in no table."""


def rows() -> Iterator[tuple[str, Meaning]]:
    """The table in order of what is done."""
    order = list(Action)
    yield from sorted(MEANINGS.items(), key=lambda row: (order.index(row[1].action), row[0]))
