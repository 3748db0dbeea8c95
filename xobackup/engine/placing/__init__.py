"""On which of several remotes a VM's backups go, when a job spreads its VMs over them (``distribute``).

A VM's chain is on exactly one of the job's remotes, its *member*. :mod:`choice` decides (pure), :mod:`given` knows
what the VMs of a run were given, :mod:`decide` asks both, :mod:`counting` counts restore points over all members.
"""
