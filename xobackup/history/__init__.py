"""What happened over the years, in a database: for pages, statistics and questions. Never needed to restore.

The journal files of :mod:`xobackup.engine.journal` are what is written while a run goes on, and what a crash leaves;
the database is made from them afterwards. So a database that is locked, full or gone costs no backup: what it missed
is read from the files the next time.

- :mod:`.facts`, :mod:`.fold`: a run's journal as facts about its VMs. Pure.
- :mod:`.schema`, :mod:`.migrations`: the tables, and how older ones become these.
- :mod:`.store`: the database; one transaction per run, the same run as often as one likes.
- :mod:`.collect`: journal files into the database; old ones away.
- :mod:`.ask`: questions.
- :mod:`.standing`: which VMs are within their recovery point objective. Pure.
"""
