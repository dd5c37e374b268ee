"""Bytes from a console to text worth keeping: whole characters, whole lines, and of a progress bar what was last seen."""

from __future__ import annotations

import codecs

LONGEST = 16_000  # characters of one piece; longer lines go on in the next


class Lines:
    """The unfinished end of one console."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""  # after the last newline
        self._shown = ""  # what `pending` gave of it

    def feed(self, data: bytes) -> list[str]:
        """Pieces of finished lines, each ending in a newline unless it is one of a very long line."""
        text = self._rest + _clean(self._decoder.decode(data))
        *lines, rest = text.split("\n")
        pieces = []
        for line in lines:
            finished = _overwritten(line)
            # The bar that was shown unfinished already need not be shown again, only its end.
            if not (self._shown and finished == self._shown):
                pieces += _cut(finished + "\n")
            self._shown = ""
        *long, self._rest = _cut(_compact(rest))
        pieces += long
        return _joined(pieces)

    def pending(self) -> str | None:
        """The unfinished line as a line, if it changed since it was last asked for: a bar, a prompt, a slow print."""
        now = _overwritten(self._rest)
        if not now or now == self._shown:
            return None
        self._shown = now
        return now + "\n"

    def finish(self) -> list[str]:
        """What is left at the end."""
        self._rest += self._decoder.decode(b"", final=True)
        last = self.pending()
        self._rest = ""
        return [last] if last else []


def _clean(text: str) -> str:
    """Backspaces and NULs say nothing in a log, and some stores refuse them."""
    return text.replace("\x00", "").replace("\x08", "")


def _overwritten(line: str) -> str:
    """What a terminal would show: the text after the last carriage return that has any after it."""
    return next((part for part in reversed(line.split("\r")) if part), "")


def _compact(rest: str) -> str:
    """Forget what a bar overwrote, so that one which runs for days takes no memory. A last \\r may belong to a \\r\\n."""
    if "\r" not in rest:
        return rest
    return _overwritten(rest) + ("\r" if rest.endswith("\r") else "")


def _cut(text: str) -> list[str]:
    """Parts of the longest length, and the rest."""
    return [text[start : start + LONGEST] for start in range(0, max(len(text), 1), LONGEST)]


def _joined(pieces: list[str]) -> list[str]:
    """Neighbours together, up to the longest piece: what was printed in one breath is sent in one."""
    joined: list[str] = []
    for piece in pieces:
        if joined and len(joined[-1]) + len(piece) <= LONGEST:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined
