"""Whose turn it is: the queue of a run's VMs, what waits and for what, which failures are worth another attempt.

chains.py    is a VM's chain healthy, does the storage work on it, when is the waiting over: pure
retry.py     which errors may pass, and the pauses between attempts: pure
queue.py     which of the VMs is next: pure
work.py      the loop that starts them
attempt.py   one attempt for one VM, and its verdict: the boundary no error crosses
"""
