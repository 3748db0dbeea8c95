"""Backups of a pool's own database ("pool metadata"), in Xen Orchestra's layout beside the VMs' backups.

Nothing here needs a lock: a point is a directory of its own, published in one step, and its name is never used twice.
"""
