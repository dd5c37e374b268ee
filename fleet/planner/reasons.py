"""The planner's words: why something is launched, or is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from fleet.model import Offer, Queue, Reason, Task, is_gpu_type
from fleet.planner.capacity import Shape, Wish, is_fit
from fleet.planner.demand import Choice, Demand

CALM = 0.01  # spot that comes to no more than this above its price is spoken of by its price


def launched_for(tasks: Sequence[str], queues: Sequence[str], wanted: Reason, lost: str) -> Reason:
    """Why a machine is launched for these tasks of these queues, at least one; the first of them came first. `lost`: the
    alternative, in words."""
    if len(tasks) == 1:
        text = f"task {tasks[0]} waits in queue {queues[0]} and no instance has room for it"
    else:
        where = f"queue {queues[0]}" if len(queues) == 1 else f"queues {', '.join(queues)}"
        text = f"{len(tasks)} tasks wait in {where} and no instance has room for them"
    return Reason(code="demand", text=text + lost, queue=wanted.queue, task=tasks[0], user=wanted.user)


def rival_of(chosen: Choice, choices: Sequence[Choice]) -> str:
    """Which other type a class might have got, and what it costs beside the chosen one; empty: there is none."""
    offer = chosen.offer
    for other in choices:
        rival = other.offer
        if (rival.type, rival.resource) == (offer.type, offer.resource):
            continue
        name = f"{rival.type} ({rival.resource})"
        if other.backoff:
            return f"; {name} may not be launched now: {other.backoff.text}"
        if other.usd is None or chosen.usd is None:
            return f"; the price of {name if other.usd is None else offer.type} is unknown"
        size = f"with {rival.gpus} GPUs against {offer.gpus}"
        return f"; {name} would cost {_beside(other, chosen)}, {size}"
    return ""


def _beside(other: Choice, chosen: Choice) -> str:
    """What it costs beside the chosen one; of spot that loses work often, for an hour of work that lasts."""
    worth, listed = (other.usd or 0.0, chosen.usd or 0.0), (_listed(other), _listed(chosen))
    is_calm = all(usd - price <= CALM * price for usd, price in zip(worth, listed, strict=True))
    more = listed[0] - listed[1] if is_calm else worth[0] - worth[1]
    if abs(more) < 0.005:
        return "as much"
    word = "more" if more > 0 else "less"
    return f"${abs(more):.2f} an hour {word}" if is_calm else f"${abs(more):.2f} {word} for an hour of work that lasts"


def _listed(choice: Choice) -> float:
    return choice.offer.price_usd_per_hour or 0.0


def soon_free(queue: Queue, offer: Offer, busy: int, until: datetime) -> Reason:
    """Why no machine is launched for a task yet."""
    text = (
        f"one of {busy} busy {offer.type} ({offer.resource}) is likely to become free before a new one has booted; "
        f"if none does, one is launched at {until:%H:%M:%S} UTC"
    )
    return Reason(code="soon_free", text=text, queue=queue.name)


def kept_from(demand: Demand, refusal: Reason) -> Reason:
    """This refusal of a new machine, and who has what is free on the others."""
    fits = demand.fits
    for walk in demand.walks:
        for room in walk.rooms:
            if room.kept_for and fits.wish.at_least <= room.kept_gpus and fits[room.shape]:
                free = "free GPU is" if room.kept_gpus == 1 else f"{room.kept_gpus:g} free GPUs are"
                text = (
                    f"{refusal.text}; instance {room.instance}'s {free} kept for task {room.kept_for}, which is ahead"
                )
                return replace(refusal, text=text)
            if room.kept_parts and 0 < fits.part <= max(room.kept_parts) and fits[room.shape]:
                text = f"{refusal.text}; a shared GPU of instance {room.instance} is kept for task {room.kept_for}, which is ahead"
                return replace(refusal, text=text)
    return refusal


def no_fit(wish: Wish, queue: Queue, choices: Mapping[str, Sequence[Choice]]) -> Reason:
    """Why none of the queue's resources can ever hold such a task."""
    names = ", ".join(queue.resources)
    sizes = [(choice.offer.gpus, name) for name in queue.resources for choice in choices.get(name, ())]
    if not sizes:
        return Reason(code="no_offer", text=f"none of its resources ({names}) has an offer now", queue=queue.name)
    wanted = f"{wish.at_least:g} GPUs" if wish.at_least != 1 else "1 GPU"
    if wish.at_least % 1:
        wanted = f"{wish.at_least:g} of a GPU"
    if wish.gpu_type:
        wanted += f" of type {wish.gpu_type.replace('|', ' or ')}"
    if wish.gpu_memory_gib:
        wanted += (
            f" with {wish.gpu_memory_gib:g} GiB" if wish.at_least % 1 else f" with {wish.gpu_memory_gib:g} GiB each"
        )
    gpus, largest = max(sizes)
    text = f"needs {wanted}; the largest of its resources ({largest}) has {gpus}"
    if wish.at_least <= gpus:
        text = f"needs {wanted}; {nearest(wish, [c for name in queue.resources for c in choices.get(name, ())])}"
    return Reason(code="no_fit", text=text, queue=queue.name)


def for_each_of(gang: Task, refusal: Reason) -> Reason:
    """Why none of the gang's machines can be had: what holds of one node holds of it."""
    is_never = refusal.code == "no_fit"
    text = f"each of its {gang.instances} instances {refusal.text}" if is_never else refusal.text
    return replace(refusal, text=text, task=gang.id)


def nearest(wish: Wish, choices: Sequence[Choice]) -> str:
    """Which offer comes nearest to a wish that none fulfils, and what it lacks."""
    best = min(choices, key=lambda choice: len(lacks(wish, choice.shape)))
    has = f"{best.shape.gpus} GPU{'s' if best.shape.gpus != 1 else ''}"
    if best.shape.gpus:
        has += f" {best.shape.gpu_model or 'of a type that is not known'}"
        has += f" with {best.shape.gpu_memory_gib:g} GiB" if best.shape.gpu_memory_gib else ""
    what = " and ".join(lacks(wish, best.shape))
    return f"the nearest, {best.offer.type} of {best.resource.name}, has {has}: {what}"


def lacks(wish: Wish, shape: Shape) -> list[str]:
    """What is wrong with such a machine, in a word each."""
    found = ["too few"] if wish.at_least > shape.gpus else []
    found += ["another type"] if not is_gpu_type(wish.gpu_type, shape.gpu_model) else []
    memory = Wish(0.0 if not wish.at_least else 1.0, None, wish.gpu_memory_gib)
    short = bool(shape.gpus) and not is_fit(memory._replace(at_least=min(wish.at_least, 1.0)), shape)
    return found + (["too little memory"] if short else [])
