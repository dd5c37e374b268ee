"""What would do as well as an offer: for clouds that can choose between several when a machine is launched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fleet.model import Offer, Task
from fleet.planner.capacity import Wish, is_fit
from fleet.planner.demand import Choice
from fleet.planner.price import known_price


class Alternatives:
    """Of one plan. Tasks are looked up once, and only if somebody asks."""

    def __init__(self, tasks: Sequence[Task], choices: Mapping[str, Sequence[Choice]]) -> None:
        self._tasks = {task.id: task for task in tasks}
        self._choices = choices

    def of(self, offer: Offer, tasks: Sequence[str]) -> tuple[Offer, ...]:
        """Offers of the same resource and market that hold these tasks too, for a price that is known and not higher.

        None for a gang, whose machines are chosen together.
        """
        waiting = [self._tasks[task] for task in tasks if task in self._tasks]
        most = known_price(offer)
        if most is None or any(task.gang or task.instances > 1 for task in waiting):
            return ()
        wishes = {Wish(task.need.at_least, task.gpu_type, task.gpu_memory_gib) for task in waiting}
        return tuple(self._found(offer, most, wishes))

    def _found(self, offer: Offer, most: float, wishes: set[Wish]) -> Iterator[Offer]:
        for choice in self._choices.get(offer.resource, ()):
            other = choice.offer
            if (other.type, other.zone) == (offer.type, offer.zone) or choice.backoff or not other.may_vary:
                continue
            price = known_price(other)
            if price is None or price > most or (other.market, other.region) != (offer.market, offer.region):
                continue
            if _is_as_large(other, offer) and (
                all(is_fit(wish, choice.shape) for wish in wishes) if wishes else _is_alike(other, offer)
            ):
                yield other


def _is_as_large(other: Offer, offer: Offer) -> bool:
    """What is planned on the machine counts its GPUs, or the CPUs of one that has none."""
    return other.gpus == offer.gpus and (offer.gpus > 0 or other.cpus >= offer.cpus)


def _is_alike(other: Offer, offer: Offer) -> bool:
    """For whom it is kept is not known yet."""
    memory = (other.gpu_memory_gib or 0.0) >= (offer.gpu_memory_gib or 0.0)
    return other.gpu_model == offer.gpu_model and memory and other.cpus >= offer.cpus
