"""Health checks: does a restore point boot? It is restored beside everything else, started, asked, and removed.

* :mod:`.request`: what is asked and what was found: data;
* :mod:`.check`: one check from the restore to the removal;
* :mod:`.boot`: the VM is made harmless, started, and waited for;
* :mod:`.guest`: what the pool's records say about the guest: pure;
* :mod:`.probes`: commands and TCP connections;
* :mod:`.removal`: the VM and its disks go, whoever does it;
* :mod:`.sample` and :mod:`.memory`: which VMs are due, and what was found when;
* :mod:`.report`: what an auditor reads, as JSON and as one HTML page: pure.

Two rules. The VM of a check never meets a network that was not named for it. And it goes, whatever happens: it and
its disks carry the check's id from the moment they are made, so that the next start removes what a
dead check left.
"""
