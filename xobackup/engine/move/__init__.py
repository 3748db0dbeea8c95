"""A VM changes pools with one short stop: warm migration, and the way back after a failover.

- :mod:`.request`: what is asked, and what was done: data.
- :mod:`.move`: rounds of replication while it runs, the stop, the last round, the start there.

Invariants: the two are never running at once; until the VM runs there, everything that fails starts it here again;
from the moment it is to run there its start here is blocked, with a text that says why; neither is ever deleted.
Run again, it goes on where it was.
"""
