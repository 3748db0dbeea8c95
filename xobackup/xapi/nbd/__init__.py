"""Reading a pool's disks by NBD, with enough requests in flight that latency does not matter.

From below: ``protocol`` (bytes), ``wire`` (a socket, plain or TLS), ``handshake`` (which export, what it can do),
``connection`` (requests in flight on one connection), ``servers`` and ``lane`` (several connections, lost ones made
again) with the ``work`` they share, ``disk`` (a disk as blocks). ``target`` is where a pool says that a disk can be
read, ``options`` every bound by name.
"""
