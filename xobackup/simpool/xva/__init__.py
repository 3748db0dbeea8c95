"""VMs as archives: a description of the objects, then the disks in pieces of 1 MiB."""
