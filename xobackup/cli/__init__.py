"""The command line: one module per command, all of them thin faces over the engine's verbs.

Modules at this level import only the standard library, Typer and Rich at their head; a command imports what it
needs inside its function, so that ``xobackup --help`` answers at once.
"""
