"""``xobackup serve``, put together: the configuration that holds now, the runs, the page, and what is told of it.

- :mod:`.log`: what the service says. :mod:`.signals`: how it is told to stop or read its configuration again.
- :mod:`.works`: the configuration, and one run of a schedule by it. :mod:`.site`: the page, which comes and goes by
  it.
- :mod:`.house`: what the page asks. :mod:`.samples`: how full the remotes are, looked at from time to time.
- :mod:`.duties`: what is done from time to time. :mod:`.notices`: people are told. :mod:`.own`: its own backup.
"""
