"""Full backups: a whole VM as one archive that XAPI makes (XVA), and everything that comes back out of one.

plan          what will be exported, and how large it may become
space         whether it will fit, decided before the first byte
byte_pump     one stream into several consumers, in bounded memory
transfer      from the snapshot into the remotes
restore_plan  a restore point as a VM: what will be created
restore_vm    and its import
restore_disk  one disk out of an archive: file, pipe or VDI
extract       the archive as it is
"""
