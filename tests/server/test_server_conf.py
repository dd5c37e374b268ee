"""The clearml.conf that a user gets."""

import json

from clearml_agent.external.pyhocon import ConfigFactory

from fleet.model import ServerAccess
from fleet.server.conf import render_clearml_conf

ACCESS = ServerAccess(
    api_url="http://fleet.lab:8765",
    web_url="http://fleet.lab:8765",
    files_url="http://fleet.lab:8765/files",
    access_key="KEY",
    secret_key='s"${x}',
)


def test_the_rendered_file_is_read_by_the_clients_parser_as_it_was_meant() -> None:
    conf = ConfigFactory.parse_string(render_clearml_conf(ACCESS))
    assert conf["api.api_server"] == "http://fleet.lab:8765"
    assert conf["api.files_server"] == "http://fleet.lab:8765/files"
    assert conf["api.credentials.secret_key"] == 's"${x}'
    assert conf["api.http.default_method"] == "post"
    assert conf["agent.disable_agent_update_check"] is True
    assert json.dumps(conf["api.credentials.access_key"]) == '"KEY"'
