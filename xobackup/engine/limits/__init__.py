"""How much at once and how fast: the limits of one process, and those of each job.

    settings.py   the numbers
    gates.py      who may go on: pure
    room.py       the one room where everybody waits
    process.py    what a process shares: numbers, room, rates
    turnstile.py  what a job asks for: VMs, snapshots, transfers, deletions
    hosts.py      which host serves an SR's disks: pure
    bandwidth.py  which rate is in force at what time: pure
    fairness.py   how several processes share a rate: pure
    links.py      what crosses the line between two sites: pure
    told.py       the limits as sentences

Deadlocks cannot happen, because everything is acquired in one order, and nobody acquires what comes earlier while
holding what comes later:

    1. a place for a VM (``vms_max``)
    2. the locks of the VM's backups on the remotes (bounded by ``lock_wait_s``)
       which of several remotes takes the VM (:mod:`xobackup.engine.placing`), one VM of a run at a time; given back
       at once
    3. snapshots, of the pool and of every SR concerned, all at once; given back before the transfer
    4. transfers, of the pool, the host, the SRs and the links between sites, all at once
    5. NBD connections (:mod:`xobackup.engine.reading.slots`)
    6. deletions of snapshots, of every SR concerned, all at once; nothing of 3 to 5 is held by then
"""
