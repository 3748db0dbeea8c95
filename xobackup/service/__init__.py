"""What runs day and night: schedules become runs. Knows no configuration file and no jobs; faces give it both.

- :mod:`.store`: what must survive a crash: up to when each schedule is settled, and what was running; in a file
  (:mod:`.state`), or in a database that several nodes share (:mod:`.shared`, :mod:`.store_rows`).
- :mod:`.runner`: whose turn it is; a queue, a cap, and never two runs of one schedule.
- :mod:`.plan`: what is to be followed.
- :mod:`.service`: the loop that asks :mod:`schedules.agenda` what is due and hands it to the runner.
- :mod:`.notify`: what systemd wants to hear.

Promises: nothing is started twice for one time; what was running or waiting when the process died is begun again at
the next start (every run is resumable); a stop lets runs clean up.
"""
