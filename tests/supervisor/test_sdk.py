"""What docker mode loads."""

import subprocess
import sys

LOOK = """
import sys
from fleet.supervisor import sdk
docker = sdk.load()
print(*(name for name in sdk.GUESSERS if name in sys.modules), end="|")
print(callable(docker.APIClient), docker.utils.parse_repository_tag("fleet:1"), end="|")
from requests import Response
answer = Response()
answer._content = b'{"message": "not here"}'
print(answer.text, answer.json()["message"], end="|")
import charset_normalizer
print(charset_normalizer.__name__, end="")
"""


def test_docker_mode_does_without_what_guesses_encodings_and_takes_it_from_nobody_who_asks_later() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", LOOK], capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.split("|") == [
        "",
        "True ('fleet', '1')",
        '{"message": "not here"} not here',
        "charset_normalizer",
    ]
