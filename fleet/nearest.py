"""The name that was meant, where one was given that nobody has: the end of every line that refuses a name."""

from __future__ import annotations

from collections.abc import Iterable

NEAR = 0.6  # of difflib's ratio: "trian" is near "train", "prep" is not
LONGEST = 80  # a name; whoever gives a longer one meant none of them


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is written most alike, large and small letters apart; None: none is near."""
    from difflib import get_close_matches  # 10 ms that a right name does not cost

    folded = {each.casefold(): each for each in known}
    near = get_close_matches(name[:LONGEST].casefold(), folded, 1, NEAR)
    return folded[near[0]] if near else None


def which(name: str, known: Iterable[str]) -> str:
    """ "did you mean train?", or where none is near "there are big, train"."""
    names = list(known)
    near = nearest(name, names)
    return f"did you mean {near}?" if near else f"there are {', '.join(names) or 'none'}"
