"""Our own configuration and state, on remotes: what brings a machine back that has nothing any more. Knows no
configuration file; faces say what belongs to it.

- :mod:`.layout`: names below ``.xobackup/self/``. :mod:`.manifest`: what a backup says of itself.
- :mod:`.packing`: files into one archive. :mod:`.publishing`: that onto a remote, the manifest last.
- :mod:`.listing`: what is there. :mod:`.keeping`: what of it may go. :mod:`.fetching`: one of them back, every byte
  checked. :mod:`.placing`: where its files go on an empty machine.

Invariants: a manifest names only parts that are whole; the newest backups are never the price of another; what is not
understood is not deleted. Nothing of it is needed to restore a VM.
"""
