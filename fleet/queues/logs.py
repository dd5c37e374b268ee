"""Console lines to the packets that `events.add_batch` takes, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from fleet.queues.base import LogLine

MAX_MESSAGE_BYTES = 64_000  # the server's limit is 64 KiB of text
MAX_PACKET_BYTES = 900_000  # and 1 MB a request, envelope included


def packets(task: str, worker: str, lines: Sequence[LogLine]) -> Iterator[tuple[bytes, int]]:
    """Bodies of JSON lines, in order, each with the number of events in it. The same lines give the same packets.

    The server orders by milliseconds alone: what was read in the same one becomes one event, and a text that is too long for one
    event goes on in the next millisecond.
    """
    packet: list[bytes] = []
    size = 0
    for at_ms, text in _messages(lines):
        event = {"type": "log", "level": "INFO", "task": task, "worker": worker, "msg": text, "timestamp": at_ms}
        encoded = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        if packet and size + len(encoded) + 1 > MAX_PACKET_BYTES:
            yield b"\n".join(packet), len(packet)
            packet, size = [], 0
        packet.append(encoded)
        size += len(encoded) + 1
    if packet:
        yield b"\n".join(packet), len(packet)


def _messages(lines: Sequence[LogLine]) -> Iterator[tuple[int, str]]:
    """Texts of one millisecond each, times strictly growing."""
    last_ms = -1
    for at_ms, text in _by_millisecond(lines):
        for part in _parts(text):
            last_ms = max(at_ms, last_ms + 1)
            yield last_ms, part


def _by_millisecond(lines: Sequence[LogLine]) -> Iterator[tuple[int, str]]:
    at_ms, texts = -1, list[str]()
    for line in lines:
        line_ms = int(line.at.timestamp() * 1000)
        if texts and line_ms > at_ms:
            yield at_ms, _joined(texts)
            texts = []
        at_ms = max(line_ms, at_ms)
        texts.append(line.text)
    if texts:
        yield at_ms, _joined(texts)


def _joined(texts: Sequence[str]) -> str:
    ended = [text if text.endswith("\n") else text + "\n" for text in texts[:-1]]
    return "".join([*ended, texts[-1]])


def _parts(text: str) -> Iterator[str]:
    """Pieces within the limit, cut after a line's end where there is one."""
    raw = text.encode("utf-8", "replace")
    while len(raw) > MAX_MESSAGE_BYTES:
        cut = raw.rfind(b"\n", 1, MAX_MESSAGE_BYTES) + 1 or MAX_MESSAGE_BYTES
        while raw[cut] & 0xC0 == 0x80:  # not inside a character
            cut -= 1
        yield raw[:cut].decode()
        raw = raw[cut:]
    yield raw.decode()
