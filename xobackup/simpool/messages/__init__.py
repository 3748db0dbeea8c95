"""What messages do, one module per class. Importing a module registers its functions."""

from __future__ import annotations

from importlib import import_module

MODULES = (
    "basics",
    "event",
    "message",
    "network",
    "pool",
    "sr",
    "task",
    "vbd",
    "vdi",
    "vdi_cbt",
    "vdi_moves",
    "vif",
    "vm",
    "vm_copies",
    "vm_life",
    "vm_memory",
    "vm_migration",
    "vtpm",
    "vusb",
)


def load() -> None:
    """Register every message."""
    for name in MODULES:
        import_module(f"{__name__}.{name}")
