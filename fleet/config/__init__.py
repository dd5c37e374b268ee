"""fleet.yaml: the text at the door becomes a `Config`, or a list of everything that is wrong with it."""

from fleet.config.file import default_path, load, parse, peek
from fleet.config.settings import Address, Config, Embedded, Front, OnShutdown
from fleet.config.starter import starter

__all__ = [
    "Address",
    "Config",
    "Embedded",
    "Front",
    "OnShutdown",
    "default_path",
    "import_aws_autoscaler",
    "load",
    "parse",
    "peek",
    "starter",
]


def import_aws_autoscaler(text: str, origin: str = "aws_autoscaler.yaml") -> str:
    """As `fleet.config.aws_autoscaler`, which is loaded only when it is wanted."""
    from fleet.config import aws_autoscaler

    return aws_autoscaler.import_aws_autoscaler(text, origin)
