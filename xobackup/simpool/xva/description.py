"""``ova.xml``: the objects of an archive as one XML-RPC struct, their references numbered ``Ref:0``, ``Ref:1`` ...

References to objects outside the archive become null. Contents of VTPMs travel in their records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xobackup.simpool.model import load_model
from xobackup.simpool.toolstack import is_null
from xobackup.simpool.values import NULL, Type, parse_type
from xobackup.simpool.xml_values import MalformedXml, plain, read_value, typed, xml_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from xobackup.simpool.toolstack import Toolstack

_STRINGS = parse_type("(string -> string) map")
EXPORT_VERSION = "2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One object of an archive: its record's references are numbers of the archive."""

    cls: str
    id: str
    record: dict[str, Any]


class Unreadable(Exception):
    """The text describes no archive."""


def objects_of(
    toolstack: Toolstack,
    vms: list[str],
    *,
    snapshots: bool,
    excluded: frozenset[str] = frozenset(),
    parents: bool = False,
) -> list[tuple[str, str]]:
    """``(class, reference)`` of everything that belongs to these VMs, each once. Under the database's lock.

    ``excluded``: kinds of devices (VBD, VIF, VTPM) that are left out; ``parents``: the hidden disks above a VM's too.
    """
    database = toolstack.database
    found: dict[tuple[str, str], None] = {}

    def add(cls: str, ref: str) -> None:
        if not is_null(ref) and database.exists(cls, ref):
            found.setdefault((cls, ref))

    def add_disk(ref: str) -> None:
        add("VDI", ref)
        if ("VDI", ref) not in found:
            return
        record = database.get("VDI", ref)
        add("SR", record["SR"])
        above = record["sm_config"].get("vhd-parent")
        if parents and above is not None:
            add_disk(next((one for one, _ in database.where("VDI", uuid=above)), NULL))

    for vm in vms:
        record = database.get("VM", vm)
        family = [vm, *(record["snapshots"] if snapshots else ())]
        for one in family:
            member = database.get("VM", one)
            add("VM", one)
            add("VM_guest_metrics", member["guest_metrics"])
            add_disk(member["suspend_VDI"])
            for vbd in member["VBDs"] if "VBD" not in excluded else ():
                add("VBD", vbd)
                add_disk(database.get("VBD", vbd)["VDI"])
            for vif in member["VIFs"] if "VIF" not in excluded else ():
                add("VIF", vif)
                add("network", database.get("VIF", vif)["network"])
            for vtpm in member["VTPMs"] if "VTPM" not in excluded else ():
                add("VTPM", vtpm)
    return list(found)


def describe(
    toolstack: Toolstack, objects: list[tuple[str, str]], *, snapshots: bool
) -> tuple[bytes, dict[str, str]]:
    """The text, and the archive's number of every reference. Under the database's lock.

    Without ``snapshots`` a snapshot that is exported itself goes out as an ordinary VM with ordinary disks.
    """
    numbers = {ref: f"Ref:{number}" for number, (_, ref) in enumerate(objects)}
    made = []
    for cls, ref in objects:
        record = _translate(cls, toolstack.database.copy(cls, ref), lambda one: numbers.get(one, NULL))
        if cls in ("VM", "VDI") and not snapshots:
            record |= {"is_a_snapshot": False, "snapshot_of": NULL}
        inside = xml_value(record, Type(kind="record", name=cls)).removesuffix("</struct></value>")
        if cls == "VTPM":
            inside += f"<member><name>contents</name><value>{toolstack.vtpm_contents.get(ref, '')}</value></member>"
        made.append(
            f"<value><struct><member><name>class</name><value>{cls}</value></member><member><name>id</name>"
            f"<value>{numbers[ref]}</value></member><member><name>snapshot</name>{inside}</struct></value>"
            "</member></struct></value>"
        )
    version = xml_value(_version(toolstack), _STRINGS)
    text = (
        f"<value><struct><member><name>version</name>{version}</member><member><name>objects</name>"
        f"<value><array><data>{''.join(made)}</data></array></value></member></struct></value>"
    )
    return text.encode(), numbers


def _version(toolstack: Toolstack) -> dict[str, str]:
    software = toolstack.database.get("host", toolstack.master)["software_version"]
    return {
        "hostname": software.get("hostname", "localhost"),
        "date": software.get("date", ""),
        "product_version": software.get("product_version", ""),
        "product_brand": software.get("product_brand", ""),
        "build_number": software.get("build_number", ""),
        "xapi_major": "1",
        "xapi_minor": "20",
        "export_vsn": EXPORT_VERSION,
    }


def _translate(cls: str, record: dict[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    fields = load_model()[cls].fields
    return {name: _value(value, fields[name].type, rename) for name, value in record.items() if name in fields}


def _value(value: Any, kind: Type, rename: Callable[[str], str]) -> Any:
    match kind.kind:
        case "ref":
            return rename(value)
        case "set" if kind.of[0].kind == "ref":
            return [name for name in map(rename, value) if name != NULL]
        case "map" if kind.of[1].kind == "ref":
            return {key: rename(one) for key, one in value.items()}
    return value


def parse(text: bytes) -> list[Described]:
    """The objects of a description. Raises :class:`Unreadable`."""
    try:
        whole = read_value(text)
        if plain(whole["version"])["export_vsn"] > EXPORT_VERSION:
            raise Unreadable("made by a newer version")
        return [
            Described(
                cls=plain(one["class"]),
                id=plain(one["id"]),
                record=typed(one["snapshot"], Type(kind="record", name=plain(one["class"]))),
            )
            for one in whole["objects"]
        ]
    except (MalformedXml, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"no description of an archive: {error}") from error


def resolve(described: Described, made: dict[str, str]) -> dict[str, Any]:
    """The record with the references of the objects that were made for the archive's numbers."""
    return _translate(described.cls, described.record, lambda one: made.get(one, NULL))
