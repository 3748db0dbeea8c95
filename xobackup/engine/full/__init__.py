"""Full backups: a whole VM as one archive that XAPI makes (XVA), and everything that comes back out of one.

plan          what will be exported, and how large it may become
space         whether it will fit, decided before the first byte
byte_pump     one stream into several consumers, in bounded memory
transfer      from the snapshot into the remotes
backup        what differs from the backup of a VM by deltas
described     a restore point with the disks that its archive describes
restore_vm    the archive as a new VM
archive_disk  one disk of it
extract       the archive as it is
"""
