"""What goes wrong in the simulated world: how often, and by a lot drawn from the seed and from what it is drawn for, never
from what was drawn before. So a change in one place does not reshuffle the faults of all others."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet.errors import ConfigError
from fleet.model import Market, Offer
from fleet.nearest import which
from fleet.simulate.agenda import EPOCH, seconds

# Sold out or not is drawn anew so often, for each type, zone and market.
WEATHER_LASTS_S = 1800.0
# A quota or credentials fail for so long at a time.
SPELL_LASTS_S = 6 * 3600.0
# A storm takes this share of the spot machines of a zone within minutes, and then nothing is left to be had there.
STORM_TAKES = 0.7
STORM_LASTS_S = 600.0
CALM_AFTER_S = 1800.0
# Spot prices turn so often; between the turns they move evenly.
PRICES_TURN_S = 6 * 3600.0
# Zones differ: where machines are taken back seldom they live so much longer than the mean, and the other way round.
ZONES_DIFFER = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Rates of what goes wrong. None and 0 = never."""

    seed: int = 0
    spot_life: timedelta | None = None  # mean time until a spot machine is taken back, in a zone of average weather
    storms_every: timedelta | None = None  # mean time between two waves of interruptions in one zone
    prices_move: float = 0.0  # 0.3 = spot costs up to 30 % more or less than listed, by type, zone and time
    notice: timedelta = timedelta(seconds=120)  # before it is
    sold_out: Mapping[Market, float] = field(default_factory=dict)  # share of the time
    over_quota: float = 0.0  # share of the time, for each family, region and market
    refused: float = 0.0  # share of the time in which a provider does not accept our credentials
    dead_boots: float = 0.0  # share of machines whose supervisor never enrols
    quitters: float = 0.0  # share of machines that enrol and end at once: a broken image
    failing_agents: float = 0.0  # share of machines on which every task fails at once
    cut_off_every: timedelta | None = None  # mean time until a machine loses all contact
    cut_off_for: timedelta = timedelta(seconds=60)  # mean; often it comes back before anybody acts
    supervisor_life: timedelta | None = None  # mean time until a supervisor dies, and its tasks with it
    gpus_sick_every: timedelta | None = None  # mean time until most GPUs of a machine fail
    lost_calls: float = 0.0  # share of cloud calls that are not answered; half of those took effect
    killed_calls: float = 0.0  # share of launch calls after which the dispatcher is killed before it hears the answer
    dispatcher_life: timedelta | None = None  # mean time until the dispatcher is killed between two passes
    list_lag: timedelta = timedelta(0)  # how long a new machine is missing from the cloud's list

    def lot(self, *key: object) -> float:
        """A number from 0 up to 1, always the same for the same key."""
        text = "|".join(map(str, (self.seed, *key)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / 2**56

    def has(self, share: float, *key: object) -> bool:
        """Whether what happens to this share of all happens to this one."""
        return share > 0 and self.lot(*key) < share

    def wait(self, mean: timedelta | None, *key: object) -> timedelta | None:
        """How long until something that comes by chance every `mean`; None: never."""
        return None if mean is None else mean * -math.log(1 - self.lot(*key))

    def is_sold_out(self, offer: Offer, at: datetime) -> bool:
        """Whether the cloud has none of these now."""
        if offer.market is Market.SPOT and self._is_after_storm(offer, seconds(at)):
            return True
        weather = int(seconds(at) // WEATHER_LASTS_S)
        return self.has(self.sold_out.get(offer.market, 0.0), "sold out", *_pool(offer), weather)

    def is_over_quota(self, offer: Offer, at: datetime) -> bool:
        """Whether the account may not have more of this family."""
        spell = int(seconds(at) // SPELL_LASTS_S)
        return self.has(self.over_quota, "quota", offer.family, offer.region or "", offer.market, spell)

    def is_refused(self, provider: str, at: datetime) -> bool:
        """Whether this provider does not accept our credentials."""
        return self.has(self.refused, "refused", provider, int(seconds(at) // SPELL_LASTS_S))

    def price_of(self, offer: Offer, at: datetime) -> float | None:
        """US dollars an hour now: as listed, but that spot moves."""
        usd = offer.price_usd_per_hour
        if usd is None or not self.prices_move or offer.market is not Market.SPOT:
            return usd
        turn, part = divmod(seconds(at) // 60 * 60 / PRICES_TURN_S, 1)
        before, after = (self.lot("price", *_pool(offer), int(turn) + n) for n in (0, 1))
        return usd * (1 + self.prices_move * (2 * (before + (after - before) * part) - 1))

    def least_price_of(self, offer: Offer, until: datetime) -> float | None:
        """US dollars an hour when it costs least, from the start until then: at one of the turns."""
        usd = offer.price_usd_per_hour
        if usd is None or not self.prices_move or offer.market is not Market.SPOT:
            return usd
        turns = int(seconds(until) // PRICES_TURN_S) + 2
        return usd * (1 + self.prices_move * (2 * min(self.lot("price", *_pool(offer), n) for n in range(turns)) - 1))

    def spot_life_of(self, offer: Offer, machine: str, at: datetime = EPOCH) -> timedelta | None:
        """How long the cloud leaves us this machine, which is launched at `at`; None: as long as we want."""
        if offer.market is not Market.SPOT:
            return None
        own = None
        if self.spot_life is not None:
            weather = ZONES_DIFFER ** (2 * self.lot("weather", *_pool(offer)) - 1)
            own = self.wait(self.spot_life * weather, "taken back", machine)
        storm = self._taken_by_storm(offer, machine, seconds(at))
        return min((life for life in (own, storm) if life is not None), default=None)

    def _storm_in(self, zone: str, window: int) -> float:
        """When the one storm of this window begins, seconds after the start."""
        assert self.storms_every
        return (window + self.lot("storm", zone, window)) * self.storms_every.total_seconds()

    def _is_after_storm(self, offer: Offer, now_s: float) -> bool:
        if self.storms_every is None:
            return False
        window = int(now_s // self.storms_every.total_seconds())
        storms = [self._storm_in(_zone(offer), n) for n in (window - 1, window)]
        return any(0 <= now_s - storm_s < STORM_LASTS_S + CALM_AFTER_S for storm_s in storms)

    def _taken_by_storm(self, offer: Offer, machine: str, launched_s: float) -> timedelta | None:
        """The first storm of its zone that does not spare it."""
        if self.storms_every is None:
            return None
        window = int(launched_s // self.storms_every.total_seconds())
        while True:
            storm_s = self._storm_in(_zone(offer), window) + STORM_LASTS_S * self.lot("in storm", machine, window)
            if storm_s > launched_s and self.has(STORM_TAKES, "storm takes", machine, window):
                return timedelta(seconds=storm_s - launched_s)
            window += 1


def faults_of(name: str, seed: int) -> Faults:
    """The set of faults that `--faults` names.

    Raises:
        ConfigError: there is none of this name.
    """
    if name == "none":
        return Faults(seed=seed)
    if name == "spot":
        # Dearer than the calm pools of the large clouds (5 to 20 % a month), kinder than their worst.
        return Faults(
            seed=seed,
            spot_life=timedelta(days=5),
            storms_every=timedelta(days=7),
            prices_move=0.2,
            sold_out={Market.SPOT: 0.15, Market.ON_DEMAND: 0.01},
        )
    if name == "chaos":
        return Faults(
            seed=seed,
            spot_life=timedelta(hours=6),
            storms_every=timedelta(hours=12),
            prices_move=0.4,
            sold_out={Market.SPOT: 0.2, Market.ON_DEMAND: 0.05},
            over_quota=0.05,
            refused=0.02,
            dead_boots=0.03,
            cut_off_every=timedelta(hours=12),
            supervisor_life=timedelta(days=2),
            lost_calls=0.05,
            killed_calls=0.02,
            dispatcher_life=timedelta(hours=6),
            list_lag=timedelta(seconds=20),
        )
    raise ConfigError(f"--faults {name}: {which(name, ('none', 'spot', 'chaos'))}")


def _zone(offer: Offer) -> str:
    return offer.zone or offer.region or ""


def _pool(offer: Offer) -> tuple[str, str, str]:
    return offer.type, _zone(offer), offer.market
