"""Disaster recovery by plan: groups of replicated VMs, brought up in order at the other site.

* :mod:`.spec`: what the configuration asks for; :mod:`.plan`: what would be done now, and what is in the way: pure;
* :mod:`.look`: the records that this needs, of the replicas' pool and of the pools the VMs are in;
* :mod:`.copies`: VMs made of restore points; :mod:`.bring_up`: started in order, asked, timed;
* :mod:`.trial`: all of it in an isolated network, removed at the end; :mod:`.failover`: for good;
* :mod:`.report` and :mod:`.remembered`: what trials found, for auditors and for later.

Two rules. A replica and its restore points are only ever read: what is started is a clone. And whatever dies on the
way leaves only what the next start recognises: a clone has a temporary name until it is whole and marked.
"""
