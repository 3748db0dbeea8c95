"""Whether there is room: on the storage repositories before a snapshot, on the remotes before a transfer.

judge.py   the figures and the verdict: pure
check.py   what is done about it in a run
replicas.py  the same on the SRs of replicas
"""
