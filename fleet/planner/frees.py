"""When a machine that a budget refuses can be paid at the latest: if nothing happens but time, and all that runs lives to the
last moment that it may.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from fleet.model import WhenSpent
from fleet.planner.accounts import HOUR, NOTHING_USD, Account, Tally
from fleet.planner.windows import Window, day_of, month_of

NONE = timedelta(0)
A_MOMENT = timedelta(seconds=1)  # what is refused now is not paid now


def lasts(usd: float, usd_per_hour: float) -> timedelta:
    """How long so much money pays for that; no longer than any window, so that no sum is too large to reckon with."""
    longest = timedelta(days=31)
    return longest if usd_per_hour * (longest / HOUR) <= usd else max(usd, 0.0) / usd_per_hour * HOUR


def frees_at(account: Account, tally: Tally, price: float, lifetime: timedelta | None, at: datetime) -> datetime | None:
    """When one more of such a price, which lives so long at most, can be paid; None: not before something ends.

    With `stop` what is refused for this window alone is meant.
    """
    if account.when_spent is WhenSpent.STOP:
        # What runs now is reckoned with to the end of the window, what is there then pays for a last part of it.
        left = tally.cap - tally.spent - (tally.window.end - at) / HOUR * account.usd_per_hour
        return max(tally.window.end - lasts(left, price), at + A_MOMENT)
    for window, left, left_later in _windows(account, tally):
        paid_at = _paid_at(window, left, left_later, price, lifetime, at)
        if paid_at:
            return max(paid_at, at + A_MOMENT)
    return None


def _windows(account: Account, tally: Tally) -> Iterator[tuple[Window, float, float]]:
    """This one and the next, with the US dollars that what runs leaves in it, and in any later one."""
    yield tally.window, tally.cap - tally.spent - tally.committed, tally.cap - tally.next
    end = tally.window.end
    following = day_of(end) if tally.kind == "day" else month_of(end)
    count, here, later = tally.following
    for price, until in account.paid[count:]:
        last = until or following.end + following.longest
        here += following.overlap(end, last) / HOUR * price
        later += min(max(last - following.end, NONE), following.longest) / HOUR * price
    tally.following = len(account.paid), here, later
    yield following, tally.cap - here, tally.cap - later


def _paid_at(
    window: Window, left: float, left_later: float, price: float, lifetime: timedelta | None, at: datetime
) -> datetime | None:
    """From when on this window pays for it, and later ones for the rest of its life; None: not in this window."""
    lived = lasts(max(left, 0.0), price)
    is_paid = lifetime is not None and lifetime <= lived
    found = max(window.start, at) if is_paid else max(window.end - lived, window.start, at)
    over = window.longest if lifetime is None else min(max(found + lifetime - window.end, NONE), window.longest)
    return found if found < window.end and over / HOUR * price <= left_later + NOTHING_USD else None
