"""The VHD format: structures, one disk, a chain, streams, merge, check. Standard library only.

Knows bytes and nothing else: files and objects come in through the Protocols of :mod:`vhd.storage`.
"""
