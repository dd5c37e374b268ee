"""The clearml.conf of a user or an agent of this server."""

from __future__ import annotations

import json

from fleet.model import ServerAccess


def render_clearml_conf(access: ServerAccess, authority: str | None = None) -> str:
    """A whole clearml.conf (HOCON) for `access`; it holds the secret, so keep it at mode 0600.

    Calls go out as POST, because proxies may drop the body of a GET; files go to our own files server; nothing phones home.
    `authority` is the file (PEM) of whoever vouches for the server, where this machine does not trust it anyway.
    """
    vouched = _VOUCHED % json.dumps(authority) if authority else ""
    quoted = {name: json.dumps(value) for name, value in _values(access).items()}
    return _TEMPLATE % (quoted | {"vouched": vouched})


def _values(access: ServerAccess) -> dict[str, str]:
    return {
        "api": access.api_url,
        "web": access.web_url,
        "files": access.files_url,
        "key": access.access_key,
        "secret": access.secret_key,
    }


_VOUCHED = """\

    # On another machine: copy this file there, and name its new place here.
    verify_certificate: %s"""
_TEMPLATE = """\
api {
    api_server: %(api)s
    web_server: %(web)s
    files_server: %(files)s
    credentials { access_key: %(key)s, secret_key: %(secret)s }
    http { default_method: "post" }%(vouched)s
}
sdk {
    development { worker { log_stdout: true } }
}
agent {
    disable_agent_update_check: true
    # Log lines that could not be sent are kept and sent again.
    truncate_task_output_files: true
}
"""
