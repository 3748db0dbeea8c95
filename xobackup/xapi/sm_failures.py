"""Failures of storage backends, ``SR_BACKEND_FAILURE_<n>``: their descriptions and what they mean for a client.

The numbers are those of Xen's storage manager. Hosts send the description in the second parameter; where one left it
empty, :data:`DESCRIPTIONS` has it. A number that is not listed is a host's trouble like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xobackup.xapi import errors
from xobackup.xapi.errors import XapiFailure
from xobackup.xapi.failure_table import ACTION_OF, Meaning

PREFIX = "SR_BACKEND_FAILURE_"

DESCRIPTIONS: dict[int, str] = {
    1: "invalid argument",
    2: "A bad character was detected in the dconf string",
    16: "the SR device is currently in use",
    19: "no such device",
    20: "no such secret",
    24: "the VDI is currently in use",
    37: "the lock/unlock request failed",
    38: "the requested method is not supported/implemented",
    39: "the SR is not empty",
    40: "the SR scan failed",
    41: "the SR log operation failed",
    42: "the SR already exists",
    43: "the VDI already exists",
    44: "there is insufficient space",
    46: "the VDI is not available",
    47: "the SR is not available",
    48: "unknown repository type",
    49: "malformed XML string",
    50: "logical Volume creation error",
    51: "logical Volume deletion error",
    52: "logical Volume mount/activate error",
    53: "logical Volume unmount/deactivate error",
    54: "logical Volume write error",
    55: "logical Volume partition creation error",
    56: "logical Volume partition in use",
    57: "logical Volume filesystem creation error",
    58: "logical Volume request must come from master",
    59: "logical Volume resize failed",
    60: "logical Volume invalid size",
    61: "file SR creation error",
    62: "file SR failed to remove directory",
    63: "file SR deletion error",
    64: "failed to remove VDI",
    65: "failed to load VDI",
    66: "invalid VDI type",
    67: "ISCSI device failed to appear",
    68: (
        "ISCSI login failed - check access settings for the initiator on the storage, if CHAP is used "
        "verify CHAP credentials"
    ),
    69: "ISCSI logout failed",
    70: "failed to set ISCSI initiator",
    71: "failed to start ISCSI daemon",
    72: "required NFS server version unsupported",
    73: "NFS mount error",
    74: "NFS unmount error",
    75: "NFS mount point already attached",
    76: "failed to remove NFS mount point",
    77: "logical Volume group creation failed",
    78: "VDI Creation failed",
    79: "VDI Invalid size",
    80: "failed to mark VDI hidden",
    81: "failed to clone VDI",
    82: "failed to snapshot VDI",
    83: "ISCSI discovery failed",
    84: "ISCSI target and received IQNs differ",
    85: "ISCSI detach failed",
    86: "failed to query the iscsi daemon",
    87: "the request is missing the LUNid parameter",
    88: "NFS SR creation error",
    89: "the request is missing the LUNid parameter",
    90: "the request is missing the device parameter",
    91: "the device is not a valid path",
    92: "the volume cannot be found",
    93: "pvs failed",
    94: "the request is missing the location parameter",
    95: "the request is missing the target parameter",
    96: "the request is missing or has an incorrect target IQN parameter",
    97: "unable to retrieve the host configuration ISCSI IQN parameter",
    98: "the request is missing the LUN serial number",
    99: "only 1 LUN may be used with shared LVM",
    100: "cannot find volume",
    101: "the request is missing the serverpath parameter",
    102: "the request is missing the server parameter",
    103: "the serverpath argument is not valid",
    104: "unable to open the refcount file",
    105: "root system device, cannot be used for VM storage",
    106: "the IQN provided is an invalid format",
    107: "the SCSIid parameter is missing or incorrect",
    108: "unable to detect an NFS service on this target",
    109: "the snapshot chain is too long",
    110: "VDI resize failed",
    111: "SMB mount error",
    112: "SMB unmount error",
    113: "SMB mount point already attached",
    114: "failed to remove SMB mount point",
    115: "not all required parameters specified",
    116: "failed to create SMB SR",
    117: "logical Volume read error",
    118: "root system device not found",
    119: "PVs found with multiple SCSI IDs",
    140: "incorrect DNS name, unable to resolve",
    141: "unable to connect to ISCSI service on target",
    142: "incorrect value for iSCSI port, must be a number between 1 and 65535",
    143: "failed to parse the request",
    144: "VDI could not be found",
    150: "failed to initialize XMLRPC connection",
    151: "failed to query Local Control Domain",
    152: "A Failure occurred querying the PBD entries",
    153: "A Failure occurred accessing an API object",
    154: "A protocol error was received when accessing the API",
    180: (
        "volume Group out of space. The SR is over-provisioned, and out of space. Unable to grow the "
        "underlying volume to accommodate the virtual size of the disk"
    ),
    181: "error in Metadata volume operation for SR",
    182: "ISCSI delete failed",
    200: "general IO error",
    201: "currently unavailable, try again",
    202: "general backend error",
    203: "an active FIST point was reached that causes the process to exit abnormally",
    204: "gave up on leaf coalesce after leaf grew bigger than before snapshot taken",
    205: "LVHDRT: found a non-stable VBD",
    220: "'Location' parameter must be specified in Device Configuration",
    221: "ISO name must have .iso extension",
    222: "could not mount the directory specified in Device Configuration",
    223: "could not unmount the directory specified in Device Configuration",
    224: "could not locate the ISO sharename on the target, or the access permissions may be incorrect",
    225: (
        "incorrect Location string format. String must be in the format SERVER:PATH for NFS targets, or "
        "\\SERVER\\PATH for CIFS targets"
    ),
    226: "invalid local path",
    227: "given SMB version is not allowed. Choose either 1.0 or 3.0",
    228: 'require "-o" along with xe-mount-iso-sr',
    413: "unable to parse XML",
    430: "failed to communicate with the multipath daemon",
    431: "multipath generic failure",
    432: "device Mapper path missing",
    433: "device Mapper path not appeared yet",
    434: "device Mapper path no SCSI ID supplied",
    445: "the tapdisk is already running",
    446: "XenServer does not support extended characters in CIFS paths, usernames, passwords, and file names",
    447: "illegal XML character",
    448: "unsupported kernel: neither 2.6 nor 3.x",
    449: "only 1 LUN may be used with shared OCFS",
    450: "OCFS mount error",
    451: "OCFS unmount error",
    452: "OCFS filesystem creation error",
    453: "tapdisk experienced an error",
    454: "SMB SR is not licensed on this host",
    455: "VG Registration failure",
    456: "unable to attach empty optical drive to VM",
    457: "unable to activate changed block tracking",
    458: "unable to deactivate changed block tracking",
    459: "changed block tracking log is in an inconsistent state",
    460: "failed to calculate changed blocks for given VDIs",
    461: "the file system for SR cannot be written to",
    1200: "SM has thrown a generic python exception",
}

_SMLOG = "see SMlog on the host"
_CONFIG = "check the SR's settings (xe pbd-list params=device-config)"
_ISCSI = "check the iSCSI target, its credentials and the storage network"
_NFS = "check the NFS server, its export and the storage network"
_SMB = "check the SMB server, its credentials and the storage network"
_LVM = f"check the SR's volume group (vgs, lvs); {_SMLOG}"
_ISO = "check the settings of the SR of ISO images"
_MULTIPATH = "check the paths to the storage (multipath -ll)"

_TROUBLE: dict[str, Iterable[int]] = {
    _LVM: (*range(50, 53), 53, *range(54, 61), 77, 93, 99, 100, 104, 117, 119, 455),
    _ISCSI: (*range(67, 72), *range(83, 87), 106, 141, 142, 182),
    _NFS: (*range(72, 77), 88, 108),
    _SMB: (*range(111, 115), 116, 446),
    _ISO: range(220, 229),
    _MULTIPATH: range(430, 435),
    _CONFIG: (1, 2, 19, 20, 48, 49, 87, 89, 90, 91, *range(94, 99), 101, 102, 103, 105, 107, 115, 118, 140, 143),
    "check that the storage's file system is whole and writable": (61, 62, 63, *range(449, 453)),
    f"scan the SR (xe sr-scan); {_SMLOG}": (40, 43, 64, 65, 80, 81, 82, 92, 110, 181, 204),
    f"restart the toolstack of that host (xe-toolstack-restart); {_SMLOG}": (*range(150, 155), 445, 453, 456),
    "check the storage itself: disks, cables, network": (200,),
}
"""What to look at, by number; nothing of it is repeated blindly."""

_KNOWN: dict[type[XapiFailure], dict[int, str]] = {
    errors.Busy: {
        16: "another operation holds the SR's device; wait for it",
        24: "something still holds the disk; see its VBDs",
        46: "the disk is attached elsewhere; see its VBDs and sm_config",
        47: "check the SR and its PBDs",
        201: "the storage asks to try again",
    },
    errors.FullNeeded: {
        459: "none needed: the record of changes is not usable, another way is taken",
        460: "none needed: the two disks are not related, another way is taken",
    },
    errors.OutOfSpace: {
        44: "free space on the SR (snapshots need some too)",
        180: "free space on the SR: it is over-provisioned",
    },
    errors.OperatorProblem: {
        39: "the SR still has disks",
        42: "choose another SR",
        66: "choose a disk of another kind",
        78: "check the SR's space and its PBDs",
        79: "VHD disks end at 2040 GiB and cannot shrink",
        109: "let the SR coalesce its chains; delete old snapshots",
        144: "scan the SR; the disk's data is gone",
        447: "take control characters out of the name or description",
        454: "the host's licence lacks this feature",
        457: "scan the SR; without it deltas go another way",
        458: "scan the SR and try again",
        461: "make the storage writable: a read-only mount, a full or broken file system",
    },
    errors.NotSupported: {38: "this kind of SR cannot do it; move the disk to another SR"},
}


def meaning_of(number: int) -> Meaning:
    """What failure ``number`` of a storage backend means; also for numbers nobody has heard of."""
    for cls, hints in _KNOWN.items():
        if number in hints:
            return Meaning(cls=cls, hint=hints[number], action=ACTION_OF[cls])
    hint = next((hint for hint, numbers in _TROUBLE.items() if number in numbers), _SMLOG)
    return Meaning(cls=errors.HostTrouble, hint=hint, action=ACTION_OF[errors.HostTrouble])


def rows() -> Iterator[tuple[str, Meaning]]:
    """The table by number."""
    for number in DESCRIPTIONS:
        yield f"{PREFIX}{number}", meaning_of(number)
