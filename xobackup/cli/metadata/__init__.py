"""``xobackup metadata``: backups of pools' own databases."""

from __future__ import annotations

import typer

from xobackup.cli.metadata import clean, restore, show, verify

app = typer.Typer(no_args_is_help=True, help="Backups of pools' own databases: list, verify, restore.")
for module in (show, verify, restore, clean):
    module.register(app)
