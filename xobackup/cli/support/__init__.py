"""``xobackup support-bundle``: one file for whoever is asked for help.

- :mod:`.contents`: what goes into it. :mod:`.anonymous`: the same without names. :mod:`.archive`: the file itself,
  and the proof that no secret is in it.
"""
