"""A cloud's metadata server, asked over HTTP: short waits, small answers, no proxy, no redirect, no surprise."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import urllib3
from urllib3.exceptions import HTTPError

CONNECT_TIMEOUT_S = 1.0  # it is one hop away, or it is not there
READ_TIMEOUT_S = 2.0
LONGEST_ANSWER = 64 * 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    text: str
    headers: Mapping[str, str]  # names in any case


class NoAnswer(Exception):
    """The metadata server cannot be asked now, or says what cannot be read. Nothing is known; ask again later."""


class MetadataServer:
    """One of them. `url` is without a path."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=1, retries=False)

    def ask(
        self, path: str, headers: Mapping[str, str], *, method: str = "GET", read_timeout_s: float = READ_TIMEOUT_S
    ) -> Answer:
        """Ask once.

        Raises:
            NoAnswer: nobody there, too slow, or far too much.
        """
        try:
            response = self._pool.request(
                method,
                self._url + path,
                headers=dict(headers),
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_timeout_s),
                redirect=False,
                preload_content=False,
            )
            body = response.read(LONGEST_ANSWER)
            if len(body) == LONGEST_ANSWER:
                response.close()
                raise NoAnswer(f"{path}: an answer of more than {LONGEST_ANSWER} bytes")
            response.release_conn()
        except (HTTPError, OSError, ValueError) as error:
            raise NoAnswer(f"{path}: no answer ({error})") from error
        return Answer(response.status, body.decode(errors="replace").strip(), response.headers)


class Complaints:
    """Each trouble is logged when it begins, and when it is over; not every five seconds."""

    def __init__(self) -> None:
        self._standing: set[str] = set()

    def about(self, what: str, error: Exception) -> None:
        if what not in self._standing:
            self._standing.add(what)
            log.warning("no notices can be had", extra={"what": what, "why": str(error)})

    def none_about(self, what: str) -> None:
        if what in self._standing:
            self._standing.remove(what)
            log.info("notices can be had again", extra={"what": what})
