"""``xobackup restore``: a restore point as a new VM, or one of its disks as a file, a stream or into a VDI."""

from __future__ import annotations

import typer

from xobackup.cli.restore import disk, vm, xva

app = typer.Typer(no_args_is_help=True, help="Restore VMs and disks.")
for module in (vm, disk, xva):
    module.register(app)
