"""Merge the children of a chain into its root, so that the newest of them needs no parents of the chain any more.

    state        Xen Orchestra's state file: what is being merged, how far it is
    plan         pure: which blocks go where, and why
    members      the chain opened and judged: what may not be merged is refused before anything changes
    files        the plan applied to VHD files
    directories  the plan applied to VHD directories
    cleanup      the children are deleted, the root takes the target's name
    run          begin or resume; the one entrance

Invariants: the target, and whatever builds on it, reads the same at every instant, also after a power cut (readers:
:mod:`vhd.lineage`). Every step can be repeated. Children lose nothing that the root does not have durably.
"""
