"""What is wanted: tasks, the queues they wait in, and what they need of GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

MOST_GPUS = 1024  # of one task: more is a typo
SMALLEST_PART = 0.01  # of a GPU
# Shares of a GPU are added in whole ten-thousandths, as fine as `GpuNeed.read` reads them: floats would lose some.
PARTS_OF_A_GPU = 10_000
# Drivers report less than the number on the box: a "24 GB" A10 says 22.5 GiB, an old "16 GB" T4 14.8 GiB.
# A task that asks for the number on the box must fit, or machines would be launched for it that never take it.
NOMINAL_MEMORY = 0.9


def in_parts(gpus: float) -> int:
    """So many GPUs, or a share of one, in ten-thousandths of a GPU."""
    return round(gpus * PARTS_OF_A_GPU)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Some hours in which other limits hold: from each time of its cron line on, for so long. None: as it is without it."""

    cron: str  # minute, hour, day, month, weekday: "0 8 * * 1-5"
    lasts: timedelta
    timezone: str = "UTC"  # an IANA name, in which the cron line is meant
    min_instances: int | None = None
    max_instances: int | None = None
    headroom: int | None = None


class Preference(StrEnum):
    """Which of a queue's resources is launched first, where several can hold a task."""

    AUTO = "auto"  # by price among those with the same GPUs, else as the fleet file lists them
    LISTED = "listed"  # as the fleet file lists them; by price within each
    PRICE = "price"  # whatever costs least


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuNeed:
    """How many GPUs a task takes: what it needs, and up to the upper bound of what nobody behind it needs. 0 = a CPU task;
    0.5 = half of one GPU."""

    at_least: float
    at_most: float

    def __str__(self) -> str:
        low, high = f"{self.at_least:g}", f"{self.at_most:g}"
        return low if low == high else f"{low}-{high}"

    @property
    def share(self) -> float | None:
        """The part of one GPU that it takes, if it is a part; None: whole GPUs, or none."""
        return self.at_least if 0 < self.at_least < 1 else None

    @classmethod
    def read(cls, text: str) -> GpuNeed:
        """From `2`, `0`, `0.5` (part of one GPU) or `1-4`: the fleet file and tasks' wishes write it alike.

        Raises:
            ValueError: anything else; the text says what is allowed.
        """
        bounds = [part.strip() for part in text.split("-")]
        digits = [part.replace(".", "", 1) for part in bounds]
        if len(bounds) > 2 or not all(d.isascii() and d.isdigit() and len(d) <= 6 for d in digits):
            raise ValueError("a number of GPUs is 2, 0.5, 0 or 1-4")
        low, high = float(bounds[0]), float(bounds[-1])
        if len(bounds) == 2 and not (low.is_integer() and high.is_integer() and 1 <= low <= high):
            raise ValueError("a range of GPUs goes up from 1 or more, in whole GPUs: 1-4")
        if low > 1 and not low.is_integer():
            raise ValueError("a part of a GPU is less than 1; more than one are whole")
        if 0 < low < SMALLEST_PART:
            raise ValueError(f"a part of a GPU is at least {SMALLEST_PART:g}")
        if high > MOST_GPUS:
            raise ValueError(f"no machine has more than {MOST_GPUS} GPUs")
        return cls(at_least=round(low, 4), at_most=round(high, 4))


def read_gpu_type(text: str) -> str:
    """A wish for a GPU's type, from `a100` or, where any of several is as good, `a100|h100` (or `a100,h100`).

    Raises:
        ValueError: anything else; the text says what is allowed.
    """
    words = [word.strip().lower() for word in text.replace(",", "|").split("|")]
    for word in words:
        plain = word.replace(" ", "").replace(".", "").replace("_", "").replace("-", "")
        if not (plain.isascii() and plain.isalnum() and word[0].isalnum() and len(word) <= 40):
            raise ValueError("a GPU type is a word of its model, as a100, or several, as a100|h100")
    return "|".join(dict.fromkeys(words))


def is_gpu_type(wish: str | None, model: str | None) -> bool:
    """Whether a GPU of this model will do: its name contains one of the words of the wish. Without a wish any GPU will do.

    Who wishes for an `a100` does not mean a seventh of one: of "NVIDIA A100-SXM4-40GB MIG 1g.5gb" only "mig 1g.5gb" counts.
    """
    if not wish:
        return True
    name = (model or "").lower()
    name = name[name.find("mig ") :] if " mig " in name else name
    return any(word in name for word in wish.lower().split("|"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A unit of work that waits in a queue (ClearML's task)."""

    id: str
    queue: str  # the queue's name
    position: int  # 0 = head of its queue
    enqueued_at: datetime
    need: GpuNeed
    name: str = ""
    project: str = ""
    user: str = ""
    gpu_type: str | None = None  # "a100|h100": only GPUs whose model contains one of these words (`is_gpu_type`)
    gpu_memory_gib: float | None = None  # at least so much on each GPU; of a part of one: in its part
    instances: int = 1  # more: a gang, which starts on so many instances at once or not at all
    is_one_zone: bool = False  # of a gang: all its instances in one zone
    gang: str | None = None  # a node of the gang that this running task (of rank 0) has started
    resumes: int = 0  # how often it was asked to save itself and put back, to go on from what it saved
    notes: tuple[str, ...] = ()  # wishes of the task that were ignored, each with its cause, for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue as the fleet file describes it."""

    name: str
    resources: tuple[str, ...]  # names of resources that may serve it; `order` says which goes first
    need: GpuNeed  # what a task of this queue takes, unless the task says otherwise
    priority: int = 0  # higher goes first
    slots: int | None = None  # tasks without GPUs at once on one instance; None = one for each CPU
    max_instances: int | None = None
    order: Preference = Preference.AUTO
    gpu_type: str | None = None  # of its tasks, unless they say otherwise; as Task.gpu_type
    gpu_memory_gib: float | None = None  # likewise
    headroom: int = 0  # room for so many more of its tasks is kept free or coming at all times
    schedule: tuple[Window, ...] = ()  # as Resource.schedule, and so are the next two
    open_windows: tuple[int, ...] = ()
    opens_at: datetime | None = None
    weight: float = 1.0  # its part among queues of the same priority, where the fleet shares
    is_shared_by_users: bool = False  # its users take turns, instead of first come, first served
