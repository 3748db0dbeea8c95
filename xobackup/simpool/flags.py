"""Short texts for what a pool consists of: what the command line takes.

    size     8G, 512M, 64K, 1048576
    SR       NAME=TYPE[,size=SIZE][,used=SIZE][,formats=qcow2+vhd][,hosts=0+2][,read-only]
    VM       NAME=SIZE[+SIZE...]|none[,filled=SIZE][,sr=NAME][,tag=TAG+TAG][,halted][,suspended][,memory=SIZE][,cd]
             [,uefi][,vtpm][,shutdown=SECONDS|refuses]

Every refusal names the text, what was expected and what was found.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import get_args

from xobackup.simpool.spec import DiskSpec, HostSpec, ImageFormat, NbdPurpose, PoolSpec, SrSpec, SrType, VmSpec

_SIZE = re.compile(r"(\d{1,15})([KMGT]?)", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class BadFlag(ValueError):
    """``text`` is not a ``what``."""

    def __init__(self, what: str, text: str, expected: str) -> None:
        self.what, self.text, self.expected = what, text, expected
        super().__init__(f"{what} {text!r}: expected {expected}")


def parse_size(text: str) -> int:
    """Bytes of ``8G`` (binary units)."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise BadFlag("size", text, "a number of bytes, or one with K, M, G or T behind it")
    return int(found[1]) * _UNITS[found[2].upper()]


def parse_sr(text: str) -> SrSpec:
    """A storage repository."""
    shape = "NAME=TYPE[,size=SIZE][,used=SIZE][,formats=qcow2+vhd][,hosts=0+2][,read-only]"
    name, kind, options = _split("storage repository", text, shape)
    kinds: dict[str, SrType] = {one: one for one in get_args(SrType)}
    if kind not in kinds:
        raise BadFlag("storage repository", text, f"one of the types {', '.join(kinds)}, found {kind!r}")
    given = _options("storage repository", text, options, {"size", "used", "formats", "hosts", "read-only"})
    made = SrSpec(
        name=name,
        type=kinds[kind],
        foreign_bytes=parse_size(given.get("used", "0")),
        read_only="read-only" in given,
        formats=_formats(text, given["formats"]) if "formats" in given else (),
        hosts=_hosts(text, given["hosts"]) if "hosts" in given else None,
    )
    return replace(made, physical_size=parse_size(given["size"])) if "size" in given else made


VM_SHAPE = (
    "NAME=SIZE[+SIZE...] or NAME=none[,filled=SIZE][,sr=NAME][,tag=TAG+TAG][,halted][,suspended][,memory=SIZE][,cd]"
    "[,uefi][,vtpm][,shutdown=SECONDS|refuses]"
)
VM_OPTIONS = {"filled", "sr", "tag", "halted", "suspended", "memory", "cd", "uefi", "vtpm", "shutdown"}
NO_DISKS = "none"


def parse_vm(text: str) -> VmSpec:
    """A VM with its disks."""
    name, sizes, options = _split("VM", text, VM_SHAPE)
    given = _options("VM", text, options, VM_OPTIONS)
    filled = parse_size(given.get("filled", "0"))
    sized = [] if sizes == NO_DISKS else [parse_size(one) for one in sizes.split("+")]
    disks = tuple(
        DiskSpec(name=f"{name} {number}", size_bytes=size, filled_bytes=min(filled, size), sr=given.get("sr", ""))
        for number, size in enumerate(sized)
    )
    if "halted" in given and "suspended" in given:
        raise BadFlag("VM", text, "either halted or suspended, found both")
    made = VmSpec(
        name=name,
        disks=disks,
        tags=tuple(filter(None, given.get("tag", "").split("+"))),
        power_state="Halted" if "halted" in given else "Suspended" if "suspended" in given else "Running",
        cd_drive="cd" in given,
        uefi="uefi" in given,
        vtpm="vtpm" in given,
        shutdown=_shutdown(text, given.get("shutdown", "")),
    )
    return replace(made, memory_bytes=parse_size(given["memory"])) if "memory" in given else made


def _shutdown(text: str, given: str) -> str:
    """How a guest takes a clean shutdown."""
    if given in ("", "refuses") or re.fullmatch(r"\d{1,6}(\.\d{1,3})?", given):
        return given
    raise BadFlag("VM", text, f"shutdown=SECONDS or shutdown=refuses, found {given!r}")


def make_spec(
    *, hosts: int, down: Collection[str], srs: Sequence[str], vms: Sequence[str], nbd: NbdPurpose, ipv6: bool
) -> PoolSpec:
    """A pool of so many hosts; without repositories and VMs given, those of the default pool."""
    names = [f"host-{number + 1}" for number in range(hosts)]
    unknown = sorted(set(down) - set(names[1:]))
    if unknown:
        raise BadFlag("host that is down", unknown[0], f"one of {', '.join(names[1:]) or 'more than one host'}")
    made = tuple(HostSpec(name=name, down=name in down, ipv6=ipv6) for name in names)
    spec = PoolSpec(hosts=made, nbd=nbd)
    repositories = tuple(parse_sr(one) for one in srs) or spec.srs
    machines = tuple(parse_vm(one) for one in vms) or spec.vms
    _check(repositories, machines, hosts)
    return replace(spec, srs=repositories, vms=machines)


def _check(srs: Sequence[SrSpec], vms: Sequence[VmSpec], hosts: int) -> None:
    names = [sr.name for sr in srs]
    for sr in srs:
        if names.count(sr.name) > 1:
            raise BadFlag("storage repository", sr.name, "a name of its own")
        if any(host >= hosts for host in sr.hosts or ()):
            raise BadFlag("storage repository", sr.name, f"hosts from 0 to {hosts - 1}")
    usable = [sr.name for sr in srs if sr.type != "iso"]
    for disk in (disk for vm in vms for disk in vm.disks):
        if (disk.sr and disk.sr not in usable) or not usable:
            raise BadFlag("disk", disk.name, f"a repository for disks: {', '.join(usable) or 'there is none'}")


def _split(what: str, text: str, shape: str) -> tuple[str, str, list[str]]:
    name, sign, rest = text.partition("=")
    first, *options = rest.split(",")
    if not name.strip() or not sign or not first:
        raise BadFlag(what, text, shape)
    return name.strip(), first.strip(), options


def _options(what: str, text: str, options: Sequence[str], known: set[str]) -> dict[str, str]:
    given = {key.strip(): value for key, _, value in (one.partition("=") for one in options)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise BadFlag(what, text, f"only {', '.join(sorted(known))}, found {', '.join(unknown)}")
    return given


def _hosts(text: str, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in value.split("+") if one)
    except ValueError:
        raise BadFlag("storage repository", text, f"numbers of hosts such as 0+2, found {value!r}") from None


def _formats(text: str, value: str) -> tuple[ImageFormat, ...]:
    known: dict[str, ImageFormat] = {one: one for one in get_args(ImageFormat)}
    given = [one for one in value.split("+") if one]
    if not given or not set(given) <= set(known):
        raise BadFlag("storage repository", text, f"formats of {', '.join(known)}, found {value!r}")
    return tuple(known[one] for one in given)
