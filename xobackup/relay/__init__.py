"""What a worker of one site reads of another site's remotes, through a worker there that reaches them: a relay.

errors.py       what goes wrong on the way, and errors of remotes as they travel
credentials.py  the key and certificate of one worker process, and TLS 1.3 between two of them
frames.py       pieces on a connection, each bounded before it is taken
squeezing.py    which level of compression pays on this connection; pure, and what it is told
places.py       what the relay has open for its peers
server.py       who is let in, and what he may ask for
lines.py        the other side's connections: made anew when they are cut
remote.py       a far remote, to be read like any other

The relay opens a place with its own configuration and credentials; who asks has none of them and needs none. Nothing
is written through it. Bytes are checked by whoever reads them, against the digests of the repository, as ever.
"""
