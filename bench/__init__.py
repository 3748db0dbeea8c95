"""Speed and memory as ratios against the machine's own limit and its tools, measured in one run: ``make bench``."""
