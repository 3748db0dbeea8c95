"""The engine: plan, snapshot, transfer, publish, retention, restore, verify, and the run that conducts them.

Phases are files; decisions are pure (:mod:`select`, :mod:`base`, :mod:`plan`), actions are thin.
"""
