"""Encryption of whole objects, as a wrapper around any remote.

remote.py       the wrapper: what is put is sealed, what is got is opened; names stay in clear
files.py        its open files
scheme.py       what a way of sealing must offer (a Protocol)
whole.py        Xen Orchestra's: one AEAD message per object
markers.py      its two files at the root, encryption.json and metadata.json: encrypted? the right key?
chunked.py      ours: objects in chunks, bound to their names, read at any place
keyring.py      ours: keys that come and go; slots.py wraps the data key, keytext.py writes a key down
aead.py         the two ciphers, at once and piece by piece
"""
