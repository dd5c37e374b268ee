"""fleet.yaml: the text at the door becomes a `Config`, or a list of everything that is wrong with it."""

from fleet.config.file import default_path, load, parse, peek
from fleet.config.settings import Address, Config, Embedded, Front
from fleet.config.starter import starter

__all__ = ["Address", "Config", "Embedded", "Front", "default_path", "load", "parse", "peek", "starter"]
