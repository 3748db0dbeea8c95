"""VMs of a run, given to workers next to their pools: the board (who does what, in a database), the two ways tasks
are sent (an embedded one, and Procrastinate over PostgreSQL), the control node's side and the worker's.

One VM's part of a run is one task. It is delivered at least once and taken by one worker at a time; a worker whose
delivery was given to another is told so at its next word, and the fencing tokens of the repositories keep it from
publishing until then. The database holds no secret: a task names things, and a worker's own configuration says how to
reach them.
"""
