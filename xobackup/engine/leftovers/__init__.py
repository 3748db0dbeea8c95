"""What runs that died left on a pool: who is alive, what is whose, and its removal.

* :mod:`.claim`: a living run says on the VM that it works on it;
* :mod:`.judge` and :mod:`.find`: everything of ours on a pool, each thing judged: pure;
* :mod:`.clean`: removes what is certain, at the start of every command that writes to a pool, or by hand.

Three rules. What does not carry a key, name or text of ours is never touched. What a living run may need is never
touched: it lives when this machine holds its mark, or when its claim on the VM is fresh by the pool's own clock. And
whether a snapshot was published is not for this room to say: that knows only the job that holds the VM's locks.
"""
