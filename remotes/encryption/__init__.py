"""Encryption of whole objects, as a wrapper around any remote.

remote.py       the wrapper: what is put is sealed, what is got is opened; names stay in clear
scheme.py       what a way of sealing must offer (a Protocol)
whole.py        Xen Orchestra's: one AEAD message per object
markers.py      its two files at the root, encryption.json and metadata.json: encrypted? the right key?
aead.py         the two ciphers, at once and piece by piece
"""
