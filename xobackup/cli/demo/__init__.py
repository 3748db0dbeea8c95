"""``xobackup demo``: the whole main job before a newcomer's eyes, with a crash in the middle.

command     the command itself
story       the steps, each checked; stops at the first thing that is not as it should be
crash       the process that is killed in the middle of a merge
"""
