# SPDX-License-Identifier: BSD-2-Clause
"""NAPI: interrupts start polling, polling replaces interrupts (``net/core/dev.c``)."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from driver_model.cpu.softirq import SoftirqVector

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.slab.allocator import Slab
    from driver_model.net.qdisc import Qdisc
    from driver_model.net.skb.alloc import SkbAllocator
    from driver_model.net.skb.free import SkbFreeing

MIN_NAPI_ID = 1024  #: lower numbers are cores
NAPI_POLL_WEIGHT = 64
NETDEV_BUDGET = 300
NETDEV_BUDGET_PS = 2 * 10**9  #: ``netdev_budget_usecs`` at HZ=1000, in picoseconds
NAPI_DISABLE_STEP_PS = 20 * 10**6
NAPI_DISABLE_TIMEOUT_PS = 10**12


class Softnet:
    """``struct softnet_data``: the NAPI instances that wait to be polled on one core.

    Attributes
    ----------
    instances : NAPI instances made so far
    slab : the core's slab allocator
    skbs, freeing : where SKBs of this core are made, and where they end
    processed : packets that polls reported
    output_queue : qdiscs that were woken, for the softirq NET_TX
    time_squeeze : times that :func:`net_rx_action` stopped for its budget or its time limit
    """

    def __init__(self, core: "Core", *, budget: int = NETDEV_BUDGET, budget_ps: int = NETDEV_BUDGET_PS) -> None:
        if budget < 1 or budget_ps < 1:
            raise ValueError(f"NET_RX budget must be positive, not {budget!r} packets and {budget_ps!r} ps")
        self.core = core
        self.budget = budget
        self.budget_ps = budget_ps
        self.poll_list: deque[Napi] = deque()
        self.instances = 0
        self.processed = 0
        self.time_squeeze = 0
        self.output_queue: list[Qdisc] = []
        self.slab: Slab
        self.skbs: SkbAllocator
        self.freeing: SkbFreeing
        core.softirq.open(SoftirqVector.NET_RX, lambda: net_rx_action(self))


class Napi:
    """``struct napi_struct``: one queue's polling context, bound to the core of its ``softnet``.

    Parameters
    ----------
    softnet : where it is polled
    poll : ``poll(budget) -> packets``; it has more to do exactly if it returns the whole budget, otherwise it has
    called
        :func:`napi_complete_done`
    weight : packets a poll may handle

    Attributes
    ----------
    napi_id : its number, as netlink names it: one for each instance of a kernel, from ``MIN_NAPI_ID`` on
    list_owner : index of the core that polls or is about to poll it, -1 when idle
    polls : calls of ``poll``
    """

    __slots__ = (
        "disabled",
        "list_owner",
        "missed",
        "name",
        "napi_id",
        "op_complete",
        "op_poll",
        "op_schedule",
        "poll",
        "polls",
        "scheduled",
        "softnet",
        "weight",
    )

    def __init__(
        self, softnet: Softnet, poll: Callable[[int], int], weight: int = NAPI_POLL_WEIGHT, name: str = "napi"
    ) -> None:
        if not 1 <= weight <= NAPI_POLL_WEIGHT:
            raise ValueError(f"NAPI weight must be in 1..{NAPI_POLL_WEIGHT}, not {weight!r}")
        self.softnet = softnet
        self.poll = poll
        self.weight = weight
        self.name = name
        softnet.instances += 1
        self.napi_id = MIN_NAPI_ID * softnet.instances + softnet.core.index
        self.scheduled = False
        self.missed = False
        self.disabled = True
        self.list_owner = -1
        self.polls = 0
        self.op_poll = softnet.core.op("napi.poll")
        self.op_complete = softnet.core.op("napi.complete")
        self.op_schedule = softnet.core.op("napi.schedule")


def napi_schedule(napi: Napi) -> bool:
    """Have a NAPI instance polled, from any context on its core; False if it was scheduled already (it will then be
    polled once more after the poll that runs now) or is disabled."""
    napi.softnet.core.spend(napi.op_schedule)
    if napi.disabled:
        return False
    if napi.scheduled:
        napi.missed = True
        return False
    napi.scheduled = True
    _queue(napi)
    return True


def napi_complete_done(napi: Napi, work_done: int) -> bool:
    """End polling. False if it was scheduled again meanwhile: it stays scheduled, and the caller must not re-arm its
    interrupt."""
    core = napi.softnet.core
    core.spend(napi.op_complete)
    if napi.missed and not napi.disabled:
        napi.missed = False
        _queue(napi)
        return False
    napi.missed = False
    napi.scheduled = False
    napi.list_owner = -1
    return True


def napi_enable(napi: Napi) -> None:
    """Let it be scheduled."""
    napi.disabled = False


def napi_disable(napi: Napi) -> None:
    """Let no poll begin, and wait, in a process, until none runs. Raises ``TimeoutError`` after a second."""
    napi.disabled = True
    core = napi.softnet.core
    deadline = core.time + NAPI_DISABLE_TIMEOUT_PS
    while napi.scheduled:
        if core.time >= deadline:
            raise TimeoutError(f"napi_disable waited a second for the poll of {napi.name} to end")
        core.sleep_until(core.time + NAPI_DISABLE_STEP_PS)


def net_rx_action(softnet: Softnet) -> None:
    """The NET_RX softirq: poll each waiting instance once, unless budget or time are used up before.

    What was not reached, or has more to do, waits for the next run of the softirq, which is raised again.
    """
    core = softnet.core
    time_limit = core.time + softnet.budget_ps
    budget = softnet.budget
    waiting = softnet.poll_list
    softnet.poll_list = deque()
    again: list[Napi] = []
    while waiting:
        napi = waiting.popleft()
        work = _poll(napi, again)
        softnet.processed += work
        budget -= work
        if budget <= 0 or core.time >= time_limit:
            softnet.time_squeeze += 1
            break
    softnet.freeing.flush()
    softnet.poll_list = deque([*waiting, *softnet.poll_list, *again])
    if softnet.poll_list:
        core.softirq.raise_(SoftirqVector.NET_RX)


def _poll(napi: Napi, again: list[Napi]) -> int:
    napi.softnet.core.spend(napi.op_poll)
    napi.polls += 1
    work = napi.poll(napi.weight)
    if work > napi.weight:
        raise RuntimeError(f"Poll of {napi.name} reported {work!r} packets, more than its budget of {napi.weight!r}")
    if work == napi.weight:
        if napi.disabled:
            napi_complete_done(napi, work)
        else:
            again.append(napi)
    return work


def _queue(napi: Napi) -> None:
    softnet = napi.softnet
    napi.list_owner = softnet.core.index
    softnet.poll_list.append(napi)
    softnet.core.softirq.raise_(SoftirqVector.NET_RX)
