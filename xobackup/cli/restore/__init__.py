"""``xobackup restore``: a restore point as a new VM, into the VM it is of, or one of its disks as a file, a stream or
into a VDI.
"""

from __future__ import annotations

import typer

from xobackup.cli.restore import disk, in_place, vm, xva

app = typer.Typer(no_args_is_help=True, help="Restore VMs and disks.")
for module in (vm, in_place, disk, xva):
    module.register(app)
