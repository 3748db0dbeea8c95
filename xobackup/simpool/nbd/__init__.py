"""The pool's NBD face: fixed newstyle, read-only, one disk per connection."""
