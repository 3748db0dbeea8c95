"""Disks of a storage repository: real VHD trees in a directory, written to by guests, snapshotted and coalesced."""
