"""XAPI's failure codes: what each means for us (:data:`MEANINGS`) and how to say it.

A code that is not in the table is a plain :class:`XapiFailure`: not transient, no advice. SM backend failures
(``SR_BACKEND_FAILURE_<n>``) carry their description in the second parameter; where a host left it empty,
:data:`SM_DESCRIPTIONS` has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from xobackup.xapi import errors
from xobackup.xapi.errors import XapiError, XapiFailure, clean_text


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a failure code means for a client."""

    cls: type[XapiFailure]
    transient: bool = False
    hint: str | None = None
    params: tuple[str, ...] = ()
    """Names of the parameters, for the sentence."""


_BUSY = errors.Busy
_OPERATOR = errors.OperatorProblem
_FULL = errors.FullNeeded
_TROUBLE = errors.HostTrouble
_UNKNOWN_CALL = errors.NotSupported

MEANINGS: dict[str, Meaning] = {
    # the session's own business
    "SESSION_AUTHENTICATION_FAILED": Meaning(errors.LoginError, hint="check the pool's username and password"),
    "SESSION_INVALID": Meaning(errors.SessionInvalid),
    "HOST_IS_SLAVE": Meaning(errors.HostIsSlave, params=("master",)),
    # retry soon
    "HOST_STILL_BOOTING": Meaning(_BUSY, True, "the host's toolstack is starting; wait for it"),
    "VDI_IN_USE": Meaning(_BUSY, True, "something still holds the disk; see its VBDs", ("VDI", "operation")),
    "OTHER_OPERATION_IN_PROGRESS": Meaning(
        _BUSY, True, "wait for the other operation, or cancel it", ("class", "object", "operation", "task")
    ),
    "TOO_MANY_PENDING_TASKS": Meaning(_BUSY, True, "the host has too many tasks; lower the concurrency"),
    "TOO_MANY_STORAGE_MIGRATES": Meaning(_BUSY, True, "wait for storage migrations to end", ("number",)),
    "TOO_BUSY": Meaning(_BUSY, True, "the host is overloaded; lower the concurrency"),
    "CANNOT_CONTACT_HOST": Meaning(_BUSY, True, "check that host and its network", ("host",)),
    "HOST_OFFLINE": Meaning(_BUSY, True, "check that host and its network", ("host",)),
    "SR_BACKEND_FAILURE_46": Meaning(_BUSY, True, "the disk is attached elsewhere; see its VBDs and sm_config"),
    "SR_BACKEND_FAILURE_47": Meaning(_BUSY, True, "check the SR and its PBDs"),
    "SR_BACKEND_FAILURE_201": Meaning(_BUSY, True, "the storage asks to try again"),
    # the object is not there
    "HANDLE_INVALID": Meaning(errors.NotFound, params=("class", "ref")),
    "UUID_INVALID": Meaning(errors.NotFound, params=("class", "uuid")),
    # a full instead of a delta
    "VDI_INCOMPATIBLE_TYPE": Meaning(_FULL, params=("VDI", "type")),
    "VDI_NO_CBT_METADATA": Meaning(_FULL, params=("VDI",)),
    "SR_BACKEND_FAILURE_459": Meaning(_FULL),
    "SR_BACKEND_FAILURE_460": Meaning(_FULL),
    # somebody has to act
    "SR_BACKEND_FAILURE_44": Meaning(errors.OutOfSpace, hint="free space on the SR (snapshots need some too)"),
    "SR_FULL": Meaning(errors.OutOfSpace, hint="free space on the SR", params=("requested", "maximum")),
    "SR_SOURCE_SPACE_INSUFFICIENT": Meaning(errors.OutOfSpace, hint="free space on the SR", params=("SR",)),
    "SR_BACKEND_FAILURE_180": Meaning(errors.OutOfSpace, hint="free space on the SR: it is over-provisioned"),
    "SR_BACKEND_FAILURE_109": Meaning(_OPERATOR, hint="let the SR coalesce its chains; delete old snapshots"),
    "SR_BACKEND_FAILURE_79": Meaning(_OPERATOR, hint="VHD disks end at 2040 GiB and cannot shrink"),
    "LICENCE_RESTRICTION": Meaning(_OPERATOR, hint="the host's licence lacks this feature", params=("feature",)),
    "LICENSE_RESTRICTION": Meaning(_OPERATOR, hint="the host's licence lacks this feature", params=("feature",)),
    "LICENSE_EXPIRED": Meaning(_OPERATOR, hint="renew the host's licence"),
    "FEATURE_RESTRICTED": Meaning(_OPERATOR, hint="the host's licence lacks this feature"),
    "RBAC_PERMISSION_DENIED": Meaning(
        _OPERATOR, hint="give the user the role pool-admin or vm-admin", params=("permission", "message")
    ),
    "SR_NOT_ATTACHED": Meaning(_OPERATOR, hint="plug the SR's PBD", params=("SR",)),
    "SR_HAS_NO_PBDS": Meaning(_OPERATOR, hint="connect the SR to a host", params=("SR",)),
    "SR_OPERATION_NOT_SUPPORTED": Meaning(_OPERATOR, hint="this kind of SR cannot do it", params=("SR",)),
    "VDI_MISSING": Meaning(_OPERATOR, hint="scan the SR; the disk's data is gone", params=("SR", "VDI")),
    "VDI_TOO_LARGE": Meaning(_OPERATOR, hint="VHD export ends at 2040 GiB", params=("VDI", "maximum")),
    "VDI_TOO_SMALL": Meaning(_OPERATOR, hint="choose a disk at least that big", params=("VDI", "minimum")),
    "VDI_READONLY": Meaning(_OPERATOR, params=("VDI",)),
    "VDI_NOT_MANAGED": Meaning(_OPERATOR, params=("VDI",)),
    "VDI_IS_ENCRYPTED": Meaning(_OPERATOR, params=("VDI",)),
    "VDI_IS_SHARABLE": Meaning(_OPERATOR, hint="shared disks cannot be snapshotted; exclude it ([NOBAK])"),
    "VDI_CBT_ENABLED": Meaning(_OPERATOR, params=("VDI",)),
    "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION": Meaning(_OPERATOR, hint="a disk resets on boot; exclude it"),
    "VM_BAD_POWER_STATE": Meaning(_OPERATOR, params=("VM", "expected", "found")),
    "OPERATION_BLOCKED": Meaning(_OPERATOR, hint="see the VM's blocked_operations", params=("VM", "reason")),
    "OPERATION_NOT_ALLOWED": Meaning(_OPERATOR, params=("reason",)),
    "NOT_SUPPORTED_DURING_UPGRADE": Meaning(_OPERATOR, hint="finish the rolling pool upgrade"),
    "NO_HOSTS_AVAILABLE": Meaning(_OPERATOR, hint="no host can run it: memory, SR or network is missing"),
    "HOST_NOT_ENOUGH_FREE_MEMORY": Meaning(_OPERATOR, params=("needed", "available")),
    "DEVICE_DETACH_REJECTED": Meaning(_OPERATOR, params=("type", "ref", "message")),
    "HOST_DISABLED": Meaning(_OPERATOR, hint="enable the host", params=("host",)),
    # this host does not know it
    "MESSAGE_METHOD_UNKNOWN": Meaning(_UNKNOWN_CALL, params=("method",)),
    "MESSAGE_PARAMETER_COUNT_MISMATCH": Meaning(_UNKNOWN_CALL, params=("method", "expected", "found")),
    "MESSAGE_REMOVED": Meaning(_UNKNOWN_CALL),
    "MESSAGE_DEPRECATED": Meaning(_UNKNOWN_CALL),
    "NOT_IMPLEMENTED": Meaning(_UNKNOWN_CALL, params=("function",)),
    "UNIMPLEMENTED_IN_SM_BACKEND": Meaning(_UNKNOWN_CALL, params=("message",)),
    "SR_BACKEND_FAILURE_38": Meaning(_UNKNOWN_CALL),
    # others that callers branch on
    "MAP_DUPLICATE_KEY": Meaning(errors.DuplicateKey, params=("class", "field", "ref", "key")),
    "TASK_CANCELLED": Meaning(errors.Cancelled, params=("task",)),
    "INTERNAL_ERROR": Meaning(_TROUBLE, hint="see /var/log/xensource.log on the host", params=("message",)),
    "VDI_IO_ERROR": Meaning(_TROUBLE, hint="see /var/log/xensource.log and SMlog on the host", params=("message",)),
    "XENAPI_PLUGIN_FAILURE": Meaning(_TROUBLE, params=("status", "stdout", "stderr")),
    "CLIENT_ERROR": Meaning(_TROUBLE, params=("message",)),
}

SM_DESCRIPTIONS: dict[int, str] = {
    16: "the SR device is currently in use",
    24: "the VDI is currently in use",
    37: "the lock or unlock request failed",
    38: "the requested method is not supported",
    40: "the SR scan failed",
    44: "there is insufficient space",
    46: "the VDI is not available",
    47: "the SR is not available",
    52: "logical volume mount or activate error",
    54: "logical volume write error",
    58: "the logical volume request must come from the master",
    65: "failed to load the VDI",
    78: "VDI creation failed",
    79: "invalid VDI size",
    80: "failed to mark the VDI hidden",
    81: "failed to clone the VDI",
    82: "failed to snapshot the VDI",
    109: "the snapshot chain is too long",
    110: "VDI resize failed",
    144: "the VDI could not be found",
    180: "the volume group is out of space",
    181: "error in a metadata volume operation",
    200: "general I/O error",
    201: "currently unavailable, try again",
    202: "general backend error",
    453: "tapdisk experienced an error",
    457: "unable to activate changed block tracking",
    458: "unable to deactivate changed block tracking",
    459: "the changed block tracking log is inconsistent",
    460: "failed to calculate changed blocks",
    461: "the file system of the SR cannot be written to",
    1200: "the storage manager raised an exception",
}

_SM_CODE = re.compile(r"SR_BACKEND_FAILURE_(\d{1,5})")
_NOT_A_VHD = re.compile(r"not a vhd|non-VHD|compute differences", re.IGNORECASE)
_IN_TEXT = re.compile(r"\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b(?:\s*,\s*\[([^\]]{0,500})\])?")


def failure(code: object, params: Iterable[object] = (), *, method: str = "") -> XapiFailure:
    """The exception for a failure XAPI reported; takes whatever a peer sent."""
    name = clean_text(str(code)) or "an empty failure code"
    texts = tuple(_plain(param) for param in params)
    meaning = MEANINGS.get(name, Meaning(_TROUBLE if _SM_CODE.fullmatch(name) else XapiFailure))
    if name == "INTERNAL_ERROR" and any(_NOT_A_VHD.search(text) for text in texts):
        meaning = Meaning(_FULL, params=meaning.params)
    error = meaning.cls(name, texts, method=method, sentence=_sentence(name, texts, meaning))
    error.transient = meaning.transient
    error.hint = meaning.hint
    return error


def from_error_info(info: object, *, method: str = "") -> XapiFailure:
    """The exception for ``[code, parameters…]``, as in a v1 answer or a task's ``error_info``."""
    if isinstance(info, list) and info:
        return failure(info[0], info[1:], method=method)
    return failure("INTERNAL_ERROR", [f"the host reported a failure without a code: {info!r}"], method=method)


def from_text(text: str, *, method: str = "") -> XapiFailure | None:
    """The failure an error page speaks of, if it names a code we know (``Server_error(CODE, [ a; b ])``)."""
    for found in _IN_TEXT.finditer(text):
        code, listed = found.group(1), found.group(2)
        if code in MEANINGS or _SM_CODE.fullmatch(code):
            params = [part.strip() for part in listed.split(";")] if listed else []
            return failure(code, [part for part in params if part] or [text], method=method)
    return None


def full_needed(error: XapiError, *, base: Iterable[str] = ()) -> bool:
    """Whether ``error`` of a delta export says that its base (by ref, uuid) cannot be used but a full can."""
    if isinstance(error, errors.FullNeeded):
        return True
    if not isinstance(error, errors.NotFound):
        return False
    names = {name for name in base if name}
    return any(name in param for name in names for param in error.params)


def _plain(param: object) -> str:
    """A parameter as text that can be printed and stored anywhere."""
    text = param if isinstance(param, str) else str(param)
    return text.encode("utf-8", "replace").decode("utf-8")


def _sentence(code: str, params: tuple[str, ...], meaning: Meaning) -> str:
    if meaning.cls is errors.SessionInvalid:
        return f"{code} (the session is not known any more)"  # its parameter is the session itself
    if meaning.cls is errors.NotFound and params and params[0].lower() == "session":
        return f"{code} (session)"
    if meaning.cls is errors.LoginError:
        return f"{code} (user {clean_text(params[0])})" if params and params[0] else code
    matched = _SM_CODE.fullmatch(code)
    if matched:
        said = clean_text(" ".join(part for part in params[1:] if part))
        said = said or SM_DESCRIPTIONS.get(int(matched.group(1)), "no description given")
        return f"{code} ({said})"
    shown = []
    for position, param in enumerate(params):
        label = f"{meaning.params[position]} " if position < len(meaning.params) else ""
        shown.append(label + (clean_text(param) or '""'))
    return f"{code} ({', '.join(shown)})" if shown else code
