"""People are told: what is wrong now, and what is well again; once, and again only after a while.

- :mod:`.troubles`: what is wrong now, from the history. Pure.
- :mod:`.oddities`: what is unusual, though nothing failed. Pure.
- :mod:`.decide`: what of it is to be told now, given what was told before. Pure.
- :mod:`.channels`: one message to one place, by a webhook, a healthchecks ping, or Apprise.
- :mod:`.told`: what was told to whom, in one small file.
- :mod:`.tell`: all of it, once.
- :mod:`.digest`, :mod:`.digest_html`: what happened in a day or a week. Pure. :mod:`.due`: when it is sent.

Promises: a channel that fails costs no backup and no other channel, and hears later what it missed; what was told
is noted after it was sent, so that a crash in between tells twice rather than never; one message holds everything
that there is to say.
"""
