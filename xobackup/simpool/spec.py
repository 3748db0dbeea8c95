"""What a simulated pool consists of, as data. The same specification and seed give the same pool."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

MIB = 1 << 20
GIB = 1 << 30
ImageFormat = Literal["vhd", "qcow2"]
SrType = Literal["ext", "file", "nfs", "smb", "lvm", "lvmoiscsi", "iso"]
NbdPurpose = Literal["", "nbd", "insecure_nbd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpec:
    """One disk of a VM. ``filled_bytes`` of it hold data from the start."""

    name: str = ""
    size_bytes: int = 64 * MIB
    filled_bytes: int = 0
    sr: str = ""
    """Name of its repository; empty: the pool's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSpec:
    """One VM with its disks and network interfaces (one per name of a network in ``networks``)."""

    name: str
    disks: tuple[DiskSpec, ...] = (DiskSpec(),)
    networks: tuple[str, ...] = ("",)
    tags: tuple[str, ...] = ()
    power_state: Literal["Running", "Halted", "Suspended"] = "Running"
    description: str = ""
    memory_bytes: int = GIB
    template: bool = False
    cd_drive: bool = False
    """A CD drive, with an image in it if the pool has a repository of images."""
    uefi: bool = False
    """UEFI firmware with secure boot, and variables in its NVRAM."""
    vtpm: bool = False
    """A virtual TPM that holds something."""
    shutdown: str = ""
    """How its guest takes a clean shutdown: at once; ``refuses``; or so many seconds later."""
    guest: str = ""
    """What its guest does after a start: see :mod:`xobackup.simpool.guest`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SrSpec:
    """One storage repository: VHD files (``ext``, ``file``, ``nfs``, ``smb``), VHDs on logical volumes (``lvm``,
    ``lvmoiscsi``: thick), or ISO images (``iso``)."""

    name: str
    type: SrType = "ext"
    physical_size: int = 1024 * GIB
    foreign_bytes: int = 0
    """Taken up by something that is no disk."""
    read_only: bool = False
    """Whether it refuses every change, from the moment on that the pool has been built."""
    formats: tuple[ImageFormat, ...] = ()
    """Images it prefers for new disks, best first (``preferred-image-formats`` of its PBDs): a disk gets the first
    that can be as large. Empty: VHD. With qcow2 disks may have up to 16 TiB."""
    hosts: tuple[int, ...] | None = None
    """Indexes of the hosts that have it plugged; ``None``: all for shared ones, the master for local ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpec:
    """One host with servers of its own. The first is the master."""

    name: str = "host-1"
    address: str = ""
    """What ``host.address`` says and where redirects point; empty: the host's own server."""
    down: bool = False
    """Whether it refuses connections from the start."""
    ipv6: bool = False
    """Whether its first interface has an IPv6 address too (``::1``), where its NBD server listens as well."""
    memory_bytes: int = 64 * GIB


DEFAULT_VMS = (
    VmSpec(
        name="web",
        disks=(
            DiskSpec(name="web system", size_bytes=64 * MIB, filled_bytes=12 * MIB),
            DiskSpec(name="web data", size_bytes=128 * MIB, filled_bytes=20 * MIB),
        ),
        tags=("production",),
        cd_drive=True,
    ),
    VmSpec(
        name="database",
        disks=(
            DiskSpec(name="database system", size_bytes=64 * MIB, filled_bytes=12 * MIB),
            DiskSpec(name="database data", size_bytes=192 * MIB, filled_bytes=24 * MIB),
        ),
        tags=("production",),
    ),
    VmSpec(name="old-test", power_state="Halted", tags=("test",)),
    VmSpec(name="Debian 12 template", disks=(), networks=(), power_state="Halted", template=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """A pool. The defaults are what the demo backs up."""

    name: str = "simulated pool"
    hosts: tuple[HostSpec, ...] = (HostSpec(),)
    srs: tuple[SrSpec, ...] = (SrSpec(name="Local storage"), SrSpec(name="ISO library", type="iso"))
    networks: tuple[str, ...] = ("Pool-wide network associated with eth0",)
    nbd: NbdPurpose = ""
    """Purpose of the first network."""
    vms: tuple[VmSpec, ...] = DEFAULT_VMS
    username: str = "root"
    password: str = "simulated"  # noqa: S105 - a simulation's
    product_brand: str = "XCP-ng"
    product_version: str = "8.3.0"

    def with_hosts(self, count: int) -> PoolSpec:
        """The same pool with so many hosts."""
        more = tuple(HostSpec(name=f"host-{number + 1}") for number in range(len(self.hosts), count))
        return replace(self, hosts=(*self.hosts, *more)[:count])
