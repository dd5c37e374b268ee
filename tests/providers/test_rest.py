"""A call to a cloud's REST API has an end in time, however the cloud answers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from fleet.errors import UnknownProviderFault
from fleet.providers.rest import Rest
from tests.waiting import PATIENCE

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextlib.contextmanager
def a_cloud_that_trickles(head: bytes, piece: bytes) -> Iterator[str]:
    """Its address. It sends the head, then the same piece again and again, for as long as somebody listens."""
    is_over = threading.Event()

    def answer() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(head)
            while not is_over.wait(0.05):
                connection.sendall(piece)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        is_over.set()
        thread.join()


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
        (HEAD + b"\r\n", b" "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ],
    ids=["of a length", "until it closes", "in chunks"],
)
def test_an_answer_that_trickles_in_is_given_up_in_time(head: bytes, piece: bytes) -> None:
    with a_cloud_that_trickles(head, piece) as url:
        began = time.monotonic()
        with pytest.raises(UnknownProviderFault, match="too slowly"):
            Rest("A cloud", url, requests.Session(), timeout_s=0.5).call("GET", "/")
        assert time.monotonic() - began < 5 * PATIENCE
