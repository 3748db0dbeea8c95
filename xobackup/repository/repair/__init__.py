"""Blocks that are not what was written are written again, from wherever their digest proves a copy.

    damage.py    which blocks of a VM are damaged and known by a digest
    sources.py   where a proven copy is: other disks of this repository, other repositories, whatever can be read
    rewrite.py   one block: set aside what is there, write, read back
    images.py    images of full backups, whole, from another repository

Invariants: nothing is written that its digest does not prove; what is replaced was copied to the quarantine before,
in the form in which it is stored; a block that was damaged and could not be repaired is as it was. A power cut leaves
a block damaged (a file is overwritten in place, which is not atomic) or whole, and the copy of what it was. Images
are replaced in one step, and not set aside: their damage would take as much room as they do.
"""
