"""The workshop around the model: data, training, evaluation, and the `bdam` command."""

__version__ = "0.1.0"
