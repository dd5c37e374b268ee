"""What docker mode loads."""

import subprocess
import sys

LOOK = """
import sys
from fleet.supervisor import sdk
docker = sdk.load()
print(*(name for name in sdk.GUESSERS if name in sys.modules), end="|")
print("docker.models" in sys.modules, docker.utils.parse_repository_tag("fleet:1"), end="|")
from requests import Response
answer = Response()
answer._content = b'{"message": "not here"}'
print(answer.text, answer.json()["message"], end="|")
import charset_normalizer, docker as whole
print(charset_normalizer.__name__, callable(whole.from_env), sdk.load() is docker, end="")
"""


def test_docker_mode_loads_what_it_uses_of_the_sdk_and_takes_nothing_from_whoever_asks_for_more_later() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", LOOK], capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.split("|") == [
        "",
        "False ('fleet', '1')",
        '{"message": "not here"} not here',
        "charset_normalizer True True",
    ]
