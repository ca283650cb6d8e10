"""
The `bdam` command, a module per group of commands.

What a command needs is imported where it runs, so that `bdam --help` answers at once.
"""
