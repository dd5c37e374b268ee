"""fleet.yaml: the text at the door becomes a `Config`, or a list of everything that is wrong with it."""

from fleet.config.file import default_path, load, parse, peek
from fleet.config.settings import Address, Config, Embedded, Front, OnShutdown
from fleet.config.starter import starter
from fleet.errors import ConfigError

__all__ = [
    "Address",
    "Config",
    "Embedded",
    "Front",
    "OnShutdown",
    "default_path",
    "import_aws_autoscaler",
    "import_clearml",
    "load",
    "parse",
    "peek",
    "starter",
]


def import_aws_autoscaler(text: str, origin: str = "aws_autoscaler.yaml") -> str:
    """As `fleet.config.aws_autoscaler`, which is loaded only when it is wanted."""
    from fleet.config import aws_autoscaler

    return aws_autoscaler.import_aws_autoscaler(text, origin)


def import_clearml(text: str, origin: str) -> str:
    """A fleet file from ClearML's aws_autoscaler.yaml, or from what one of its autoscaler applications exported.

    Raises:
        ConfigError: it is neither, or something in it cannot be meant; `problems` names everything.
    """
    from fleet.config import aws_autoscaler, clearml_app
    from fleet.config.formats import plain

    data, problems = plain(text, origin)
    if clearml_app.is_app(data):
        if problems:
            raise ConfigError(*(f"{origin}: {problem}" for problem in problems))
        return clearml_app.import_app(data, origin)
    return aws_autoscaler.import_aws_autoscaler(text, origin)
