"""Restores: a restore point becomes a VM, the content of a VDI, or a file.

plan        what a restore of a VM will create, decided before anything is
records     the records XAPI is given for a VM, its disks and its NICs
vm          a restore point as a new VM: everything or nothing
differential  from which surviving snapshot a disk can start, and which blocks differ
devices     what a VM has besides disks and NICs
vdi         one disk into a VDI that exists
files       one disk into a raw, VHD or qcow2 file
pipe        one disk into a pipe

A full backup that is an XVA goes the way of ``xobackup.engine.full``.
"""
