"""Which fields of the database are two views of one link.

A set field of references is never stored by its owner: it is derived from the reference on the other side. When an
object goes, its dependants go with it (:data:`CASCADES`) and other references to it become null.
"""

from __future__ import annotations

LINKS: dict[tuple[str, str], tuple[str, str]] = {
    ("VBD", "VM"): ("VM", "VBDs"),
    ("VBD", "VDI"): ("VDI", "VBDs"),
    ("VIF", "VM"): ("VM", "VIFs"),
    ("VIF", "network"): ("network", "VIFs"),
    ("VTPM", "VM"): ("VM", "VTPMs"),
    ("VUSB", "VM"): ("VM", "VUSBs"),
    ("VGPU", "VM"): ("VM", "VGPUs"),
    ("console", "VM"): ("VM", "consoles"),
    ("crashdump", "VM"): ("VM", "crash_dumps"),
    ("crashdump", "VDI"): ("VDI", "crash_dumps"),
    ("VM", "snapshot_of"): ("VM", "snapshots"),
    ("VM", "parent"): ("VM", "children"),
    ("VM", "resident_on"): ("host", "resident_VMs"),
    ("VM", "appliance"): ("VM_appliance", "VMs"),
    ("VDI", "SR"): ("SR", "VDIs"),
    ("VDI", "snapshot_of"): ("VDI", "snapshots"),
    ("VDI", "metadata_of_pool"): ("pool", "metadata_VDIs"),
    ("PBD", "SR"): ("SR", "PBDs"),
    ("PBD", "host"): ("host", "PBDs"),
    ("PIF", "host"): ("host", "PIFs"),
    ("PIF", "network"): ("network", "PIFs"),
    ("host_cpu", "host"): ("host", "host_CPUs"),
    ("host_crashdump", "host"): ("host", "crashdumps"),
    ("host_patch", "host"): ("host", "patches"),
    ("PCI", "host"): ("host", "PCIs"),
    ("PGPU", "host"): ("host", "PGPUs"),
    ("PUSB", "host"): ("host", "PUSBs"),
    ("Feature", "host"): ("host", "features"),
    ("Certificate", "host"): ("host", "certificates"),
    ("task", "subtask_of"): ("task", "subtasks"),
}
"""``(class, reference field)`` to ``(class, set field)`` on the other side."""

OWNED: dict[str, tuple[tuple[str, str], ...]] = {
    "VM": (("VM_metrics", "metrics"), ("VM_guest_metrics", "guest_metrics")),
    "host": (("host_metrics", "metrics"),),
    "PIF": (("PIF_metrics", "metrics"),),
}
"""Objects that exist only for one other: ``class`` to the ``(class, field)`` it points to."""

CASCADES: dict[str, tuple[tuple[str, str], ...]] = {
    "VM": (("VBD", "VM"), ("VIF", "VM"), ("VTPM", "VM"), ("VUSB", "VM"), ("VGPU", "VM"), ("console", "VM")),
    "VDI": (("VBD", "VDI"), ("crashdump", "VDI")),
    "host": (("PBD", "host"), ("PIF", "host"), ("host_cpu", "host")),
    "SR": (("PBD", "SR"), ("VDI", "SR")),
}
"""What is destroyed together with an object: the objects whose reference field names it."""

DERIVED: frozenset[tuple[str, str]] = frozenset(LINKS.values())
