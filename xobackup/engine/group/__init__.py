"""VMs whose snapshots belong together: taken as close together as can be, told as one group ever after.

judge      what a member's trouble means for the others: pure
marks      by what restore points of a group are known
span       how close together the snapshots were
conduct    the stages of several VMs, interleaved
"""
