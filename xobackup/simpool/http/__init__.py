"""The pool's HTTPS face: a small threaded server with xapi's manners, one module per handler."""
