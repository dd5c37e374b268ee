"""Whether what runs in this container answers: exit code 0 if it does. In TLS, whoever made the certificate, or without (`tls: none`, behind a proxy). The port is that of `listen`; another one: `healthy.py PORT`."""

from __future__ import annotations

import http.client
import ssl
import sys

WITHIN_S = 4


def answers(port: int) -> bool:
    """Whatever it says, but a fault of its own. `debug.ping` needs no credentials; a dispatcher of another ClearML server has none."""
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    for connection in (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=WITHIN_S, context=unverified),
        http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN_S),
    ):
        try:
            connection.request("GET", "/debug.ping")
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()
    return False


if __name__ == "__main__":
    sys.exit(0 if answers(int(sys.argv[1]) if len(sys.argv) > 1 else 8765) else 1)
