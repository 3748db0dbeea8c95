"""The status page and the API: what one sees of a service, and may do with it, from a browser or a program.

- :mod:`.house`: what pages ask for and what they may order; the command line gives it. Knows no HTTP.
  :mod:`.views`: what it answers; :mod:`.requests`: what is ordered.
- :mod:`.access`, :mod:`.sessions`, :mod:`.tokens`: who somebody is and may do. :mod:`.audit`: who did what.
- :mod:`.app`: the application: headers, errors, who may come in. :mod:`.pages` and :mod:`.api`: what it answers.
- :mod:`.charts`: pictures from numbers, as SVG. :mod:`.metrics`: the same numbers for Prometheus. Both pure.
- :mod:`.shown`: times, sizes and states as a page shows them. Pure.
- :mod:`.server`: the application in a thread of its own, with TLS.

Invariants: every page works without JavaScript and asks no other machine; no text that comes from a pool, a guest
or a remote gets into a page unescaped; nothing changes anything without a login, a role, and a token that only our
own pages know; every such thing is in the audit log before it is done.
"""
