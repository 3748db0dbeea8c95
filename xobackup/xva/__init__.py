"""VMs as archives, the way XAPI exports them: a tar of a description and of the disks in pieces of 1 MiB.

errors        what can be wrong with one
packing       gzip, zstd or nothing around it, taken off while it arrives, in bounded memory
zstd_frames   whether a zstd stream was whole
tar           members, one after the other
description   ``ova.xml``: the VM, its disks, its NICs
archive       all of it in order: the description, then verified pieces; every rule of the format
valid         what Xen Orchestra looks at

Knows bytes and nothing else: neither a pool nor a repository.
"""
