"""fleet turns ClearML task queues into GPU machines, and turns the machines off again."""

__version__ = "0.1.0"
