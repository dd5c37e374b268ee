"""The `clearml.conf` of a user of the embedded server."""

from __future__ import annotations

from dataclasses import replace

from fleet.assemble.access import access_of
from fleet.assemble.state import authority_file, state_of
from fleet.config import Config, Embedded
from fleet.errors import ConfigError
from fleet.server.conf import render_clearml_conf

LONGEST_USER = 200  # characters of a user's name


def clearml_conf(config: Config, new_user: str | None) -> str:
    """That of the first user, or of a new one.

    Raises:
        ConfigError: the server is not ours or has never run here, or that can be nobody's name.
    """
    if not isinstance(config.server, Embedded):
        raise ConfigError(
            f"{config.origin}: the server is not ours; get credentials from its web page ({config.server.web_url})"
        )
    if new_user is not None and not (new_user.strip() and new_user.isprintable() and len(new_user) <= LONGEST_USER):
        raise ConfigError(f"{new_user[:LONGEST_USER]!r} cannot be a user's name; give 1 to {LONGEST_USER} characters")
    access = access_of(config, "user")
    if new_user is not None:
        from fleet.assemble.memory import open_database
        from fleet.server import credentials

        database = open_database(config, "server")
        access_key, secret_key = credentials.create(database, new_user, "fleet server credentials")
        access = replace(access, access_key=access_key, secret_key=secret_key)
    return render_clearml_conf(access, str(authority_file(state_of(config))) if access.authority else None)
