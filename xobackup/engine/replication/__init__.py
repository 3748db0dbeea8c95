"""Replicas: VMs kept on the SR of another pool, which a run brings forward by deltas.

A replica is one halted VM whose start is blocked; its restore points are snapshots of it. It is a target of a run
like a remote (:class:`~xobackup.engine.target.Target`): fed from the same snapshot and the same reading, and it drops
out like one. The marks are Xen Orchestra's, so that either recognises and continues what the other made.

1. A restore point counts once it carries its own uuid, which is written last. Whatever is copied from it has another.
2. A delta is only ever written onto a disk that was proven to hold what the delta continues.
3. What was begun and did not end is taken back to the newest restore point: at once, or by the next start.
4. A replica that somebody started, or changed, is his: it is never written to again.
"""
