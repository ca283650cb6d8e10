"""
The commands of `bdam`, a module per group.

Each command imports what it needs when it runs, so that `bdam --help` is fast.
"""
