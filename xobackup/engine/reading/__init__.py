"""Reading a disk of a pool: by which way (``ladder``, pure), and each way's source.

``streamed`` the export stream; ``nbd`` NBD and full reads by it; ``listed`` the block list of an export stream, read
by NBD; ``tracked`` changed block tracking, read by NBD and completed (``completing``) from the parent in the
repository. ``source`` is what they have in common, ``slots`` the bound on connections.
"""
