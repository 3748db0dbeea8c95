"""qcow2 images, version 3: what a pool keeps disks above 2040 GiB in. Emitted, written to files, read from streams.

Big-endian, in clusters of 64 KiB where we write (any size is read). A header, one table of tables (L1), tables (L2)
that say where each cluster of the disk lies, and reference counts for every cluster of the file. Source: the format's
specification, ``docs/interop/qcow2.rst`` of QEMU.
"""
