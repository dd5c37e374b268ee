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
from fleet.simulate.agenda import seconds

# Sold out or not is drawn anew so often, for each type, zone and market.
WEATHER_LASTS_S = 1800.0
# Zones differ: where machines are taken back seldom they live so much longer than the mean, and the other way round.
ZONES_DIFFER = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Rates of what goes wrong. None and 0 = never."""

    seed: int = 0
    spot_life: timedelta | None = None  # mean time until a spot machine is taken back, in a zone of average weather
    notice: timedelta = timedelta(seconds=120)  # before it is
    sold_out: Mapping[Market, float] = field(default_factory=dict)  # share of the time
    dead_boots: float = 0.0  # share of machines whose supervisor never enrols
    cut_off_every: timedelta | None = None  # mean time until a machine loses all contact
    cut_off_for: timedelta = timedelta(seconds=60)  # mean; often it comes back before anybody acts
    supervisor_life: timedelta | None = None  # mean time until a supervisor dies, and its tasks with it
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
        weather = int(seconds(at) // WEATHER_LASTS_S)
        return self.has(self.sold_out.get(offer.market, 0.0), "sold out", *_pool(offer), weather)

    def spot_life_of(self, offer: Offer, machine: str) -> timedelta | None:
        """How long the cloud leaves us this machine; None: as long as we want."""
        if self.spot_life is None or offer.market is not Market.SPOT:
            return None
        weather = ZONES_DIFFER ** (2 * self.lot("weather", *_pool(offer)) - 1)
        return self.wait(self.spot_life * weather, "taken back", machine)


def faults_of(name: str, seed: int) -> Faults:
    """The set of faults that `--faults` names.

    Raises:
        ConfigError: there is none of this name.
    """
    if name == "none":
        return Faults(seed=seed)
    if name == "spot":
        # Dearer than the calm pools of the large clouds (5 to 20 % a month), kinder than their worst.
        return Faults(seed=seed, spot_life=timedelta(days=5), sold_out={Market.SPOT: 0.15, Market.ON_DEMAND: 0.01})
    if name == "chaos":
        return Faults(
            seed=seed,
            spot_life=timedelta(hours=6),
            sold_out={Market.SPOT: 0.2, Market.ON_DEMAND: 0.05},
            dead_boots=0.03,
            cut_off_every=timedelta(hours=12),
            supervisor_life=timedelta(days=2),
            lost_calls=0.05,
            killed_calls=0.02,
            dispatcher_life=timedelta(hours=6),
            list_lag=timedelta(seconds=20),
        )
    raise ConfigError(f"--faults {name}: there are none, spot and chaos")


def _pool(offer: Offer) -> tuple[str, str, str]:
    return offer.type, offer.zone or offer.region or "", offer.market
