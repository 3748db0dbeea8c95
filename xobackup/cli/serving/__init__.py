"""``xobackup serve``, put together: the configuration that holds now, the runs, the page, and what is told of it.

- :mod:`.log`: what the service says. :mod:`.signals`: how it is told to stop or read its configuration again.
- :mod:`.works`: the configuration, and one run of a schedule by it. :mod:`.site`: the page, which comes and goes by
  it.
- :mod:`.house`: what the page asks. :mod:`.samples`: how full the remotes are, looked at from time to time.
- :mod:`.desk`: where orders are taken; :mod:`.performing`: what is done for them; :mod:`.ordered`: both put together.
- :mod:`.eyes`: everything that looks: :mod:`.looks` now and with a bounded wait, :mod:`.survey` long and from time to
  time, :mod:`.backups` for pages.
- :mod:`.duties`: what is done from time to time. :mod:`.notices`: people are told. :mod:`.own`: its own backup.
"""
