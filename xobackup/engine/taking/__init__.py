"""Taking a VM: how the moment that a backup shows comes about on the pool, and everything around it.

taken         what was taken: references and records, as the transfer and the metadata want them
marks         what a backup writes on snapshots, and takes off live VMs
migration     the VM stays on its pool meanwhile
snapshot      one snapshot: taken under a temporary name, marked, named
uncertain     whether it happened, when the answer was lost
attempt       all of it for one attempt of one VM
"""
