"""Restore points copied from one remote to another; no pool takes part.

choose.py  which points: a set difference, narrowed by filters and by what the target's retention would keep. Pure
disks.py   one disk: what it has beyond a base that the target has, or all of it
copy.py    one restore point, published last; one VM, its retention and merges
"""
