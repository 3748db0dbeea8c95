"""What commands and the service both do: a verb a module, without a terminal and without a page.

Each takes what it needs from outside (a world, or counters and a switch) and returns what came out, also as JSON
data with stable keys: the same record that ``--json`` prints is what the page shows and the API answers.
"""
