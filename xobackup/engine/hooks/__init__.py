"""What is run around a backup: the operator's own commands and requests, and what a guest offers by itself.

hook          what a job says: when, what, how long, and whether its failure stops
facts         what a hook is told, as environment variables and as JSON
command       a process: bounded in time, killed with its children
request       an HTTP request: bounded in time, ended at once when the run stops
running       all hooks of one moment, in their order
guest         the hook inside a guest, as Xen Orchestra knows it
freezing      what must be thawed again, whatever happens, even after a crash
"""
