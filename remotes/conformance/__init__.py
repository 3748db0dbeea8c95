"""The contract of :mod:`remotes.contract` as a suite that any remote can be asked to pass.

:func:`run_conformance` is what ``xobackup remote test`` runs against a user's storage: it works in a scratch
directory ``.xobackup/test-<random>`` that is removed whatever happens. The project's own tests run :data:`PROMISES`
one by one against every implementation.
"""

from __future__ import annotations

from remotes.conformance import concurrent, directories, files, many, measures, objects
from remotes.conformance.suite import Check, Promise, Scratch, run_promise, scratch_of
from remotes.contract import Remote

PROMISES: tuple[Promise, ...] = (
    *objects.PROMISES,
    *directories.PROMISES,
    *files.PROMISES,
    *many.PROMISES,
    *concurrent.PROMISES,
    *measures.PROMISES,
)

__all__ = ["PROMISES", "Check", "Promise", "Scratch", "run_conformance", "run_promise", "scratch_of"]


def run_conformance(remote: Remote) -> list[Check]:
    """Ask for every promise in turn; raises only when the scratch directory itself cannot be made."""
    with scratch_of(remote) as scratch:
        return [run_promise(promise, scratch) for promise in PROMISES]
