"""Named bytes somewhere: local, memory, (later) NFS and S3; and the wrappers around them.

Knows no VHD and no XAPI. The contract is :mod:`remotes.contract`; every implementation passes the suite in
:mod:`remotes.conformance`.
"""
