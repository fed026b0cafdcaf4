# SPDX-License-Identifier: BSD-2-Clause
"""All counters of the register description, fed by the datapath's events."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from operator import or_
from types import MappingProxyType

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.abi.registers import WORD_BYTES, RegisterMap, register_map
from hw.abi.rings import CompletionError, DropReason
from hw.config import NicConfig
from hw.nic.stats.bank import AccumulatorBank
from hw.nic.stats.events import QueueRxEvent, QueueTxEvent, RxFrameEvent, TxFrameEvent
from hw.nic.stats.totals import COUNTER_BITS, Step, Totals

#: Longest frame in memory of each RMON size class but the last, which has no bound.
SIZE_BOUNDS = {"size_64": 60, "size_127": 123, "size_255": 251, "size_511": 507, "size_1023": 1019, "size_1518": 1514}
SIZES = (*SIZE_BOUNDS, "size_max")
CASTS = ("unicast", "multicast", "broadcast")
PORT_DROPS = tuple(reason for reason in DropReason if reason.value < DropReason.QUEUE_DISABLED.value)
TX_ERRORS = MappingProxyType(
    {
        CompletionError.READ_FAULT: "tx_read_fault",
        CompletionError.FRAME_LENGTH: "tx_frame_length",
        CompletionError.OFFLOAD: "tx_offload",
    }
)
LENGTH_BITS = 16


class InterruptEvent(wiring.Signature):
    """An interrupt message of a queue pair was taken by the host."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "queue": Out(range(config.queues))})


def queue_drops(config: NicConfig) -> tuple[DropReason, ...]:
    """Reasons for which a NIC with these parameters drops frames that were steered to a queue."""
    reasons = (reason for reason in DropReason if reason.value >= DropReason.QUEUE_DISABLED.value)
    return tuple(reason for reason in reasons if config.pools or reason is not DropReason.POOL_LIMIT)


def _drop(reason: DropReason) -> str:
    return f"drop_{reason.name.lower()}"


@dataclass(frozen=True)
class _Bank:
    """Sums of events that exclude each other; of their amounts, which come together, by the name of what they count."""

    entries: int  #: kinds of events at the port, or queues
    amounts: Mapping[str, int]  #: and their bits


def _banks(config: NicConfig) -> dict[str, _Bank]:
    queues = config.queues
    frame, sized_frame = {"frames": 1}, {"frames": 1, "bytes": LENGTH_BITS}
    drops = {_drop(reason): 1 for reason in queue_drops(config)}
    errors = dict.fromkeys((*TX_ERRORS.values(), "tx_aborted"), 1)
    return {
        "rx_cast": _Bank(len(CASTS), sized_frame),
        "rx_size": _Bank(len(SIZES), frame),
        "rx_drop": _Bank(len(PORT_DROPS), frame),
        "tx_cast": _Bank(len(CASTS), sized_frame),
        "tx_size": _Bank(len(SIZES), frame),
        "queue_rx": _Bank(queues, {"rx_packets": 1, "rx_bytes": LENGTH_BITS, "rx_write_fault": 1}),
        "queue_drop": _Bank(queues, drops),
        "queue_tx": _Bank(queues, {"tx_packets": 1, "tx_bytes": LENGTH_BITS} | errors),
        "queue_interrupt": _Bank(queues, {"interrupts": 1}),
    }


@dataclass(frozen=True)
class _Part:
    """What a sum of a bank adds to."""

    counter: str  #: name in the register description
    queue: int | None  #: whose it is; None: the port's
    bank: str
    amount: str
    entry: int


def _parts(config: NicConfig) -> Iterator[_Part]:
    for side in ("rx", "tx"):
        for entry, cast in enumerate(CASTS):
            yield _Part(f"{side}.{cast}", None, f"{side}_cast", "frames", entry)
            yield _Part(f"{side}.frames", None, f"{side}_cast", "frames", entry)
            yield _Part(f"{side}.bytes", None, f"{side}_cast", "bytes", entry)
        for entry, size in enumerate(SIZES):
            yield _Part(f"{side}.{size}", None, f"{side}_size", "frames", entry)
    for entry, reason in enumerate(PORT_DROPS):
        yield _Part(f"rx.{_drop(reason)}", None, "rx_drop", "frames", entry)
    for queue in range(config.queues):
        for name, bank in _banks(config).items():
            if name.startswith("queue"):
                for amount in bank.amounts:
                    yield _Part(f"counters.{amount}", queue, name, amount, queue)


def _spread(parts: Iterable[_Part]) -> list[_Part]:
    """In an order in which the parts of one counter are far from each other: between them lie counters of one part."""
    found = list(parts)
    of_counter = Counter((part.counter, part.queue) for part in found)
    single = sum(count == 1 for count in of_counter.values())
    earlier: Counter[tuple[str, int | None] | None] = Counter()
    places = []
    for part in found:
        name = (part.counter, part.queue)
        series, length = (name, of_counter[name]) if of_counter[name] > 1 else (None, single)
        places.append(Fraction(earlier[series], length))
        earlier[series] += 1
    return [part for _, part in sorted(zip(places, found), key=lambda entry: entry[0])]


PORT_ROWS, QUEUE_ROWS = 64, 16


def _row(registers: RegisterMap, counter: str, queue: int | None) -> int:
    """Place of a counter in the memory of totals."""
    if queue is None:
        word = registers.port[counter].offset // WORD_BYTES
        return word % 32 + 32 * (word // 64 % 2)
    return PORT_ROWS + QUEUE_ROWS * queue + registers.queue[counter].offset // WORD_BYTES % QUEUE_ROWS


class Stats(wiring.Component):
    """Counters of port and queues.

    Every event is counted, also with one of each kind in every cycle. Events first add up in a bank for each class of
    events that exclude each other (:class:`hw.nic.stats.bank.AccumulatorBank`); a sweep adds those sums to the counters
    in memory (:class:`hw.nic.stats.totals.Totals`), counter by counter, over and over.

    Software reads a snapshot: all counters as of one cycle, the same for all of them. It is the first one between two
    sweeps after ``snapshot``; a sweep takes ``period`` cycles. Every event before ``snapshot`` is in it.

    Ports
    -----
    rx, tx : In
        Frames at the port.
    queue_rx_delivered, queue_rx_dropped : In
        Fates of steered frames. They come from two places, so each has its port; ``dropped`` of the event is not looked
        at.
    queue_tx, interrupt : In
        Fates of frames of TX rings; interrupts taken by the host.
    snapshot : In, busy : Out
        Take a snapshot; one is being taken, from the next cycle on and for at most 2 ``period`` + 5 cycles. A command
        while busy is ignored. In the cycle after ``busy`` fell, ``read_value`` is of the new one.
    read_address : In, read_value : Out
        Offset of a counter in the register map, and its value at the last snapshot two cycles later; zero before
        the first, and for what is never counted (``drop_pool_limit`` without pools). Where there is no counter, it
        means nothing.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._banks = _banks(config)
        self._sources = [(name, amount) for name, bank in self._banks.items() for amount in bank.amounts]
        registers = register_map(config.queues)
        self._steps = [
            Step(
                source=self._sources.index((part.bank, part.amount)),
                entry=part.entry,
                row=_row(registers, part.counter, part.queue),
            )
            for part in _spread(_parts(config))
        ]
        super().__init__(
            {
                "rx": In(RxFrameEvent(config)),
                "tx": In(TxFrameEvent(config)),
                "queue_rx_delivered": In(QueueRxEvent(config)),
                "queue_rx_dropped": In(QueueRxEvent(config)),
                "queue_tx": In(QueueTxEvent(config)),
                "interrupt": In(InterruptEvent(config)),
                "snapshot": In(1),
                "busy": Out(1),
                "read_address": In(config.mmio_addr_width),
                "read_value": Out(COUNTER_BITS),
            }
        )

    @property
    def period(self) -> int:
        """Cycles from the beginning of one sweep to that of the next."""
        return len(self._steps) + 1

    def elaborate(self, platform) -> Module:
        m = Module()
        banks = {}
        for name, bank in self._banks.items():
            banks[name] = AccumulatorBank(bank.entries, bank.amounts, cycles=self.period)
            m.submodules[name] = banks[name]
        self._add_up(m, banks)

        sums = [banks[name].sums[amount] for name, amount in self._sources]
        rows = PORT_ROWS + QUEUE_ROWS * self._config.queues
        m.submodules.totals = totals = Totals(self._steps, rows=rows, amount_width=max(map(len, sums)))
        chosen = (Mux(source, value, 0) for source, value in zip(totals.sources, sums))
        m.d.comb += totals.amount.eq(reduce(or_, chosen))
        for bank in banks.values():
            m.d.comb += [bank.exchange.eq(totals.exchange), bank.collect_entry.eq(totals.entry)]

        word = self.read_address[exact_log2(WORD_BYTES) :]
        page = self.read_address[exact_log2(register_map(self._config.queues).queue_stride) :]
        in_queue = Cat(word[: exact_log2(QUEUE_ROWS)], page + PORT_ROWS // QUEUE_ROWS - 1)
        m.d.comb += [
            totals.read_row.eq(Mux(page == 0, Cat(word[:5], word[6]), in_queue)),
            totals.snapshot.eq(self.snapshot),
            self.busy.eq(totals.busy),
            self.read_value.eq(totals.value),
        ]
        return m

    def _add_up(self, m, banks):
        """Events to their banks, in two steps, each a register: as they come, then as what they count."""
        rx, tx = _registered(m, self.rx), _registered(m, self.tx)
        delivered, dropped = _registered(m, self.queue_rx_delivered), _registered(m, self.queue_rx_dropped)
        queue_tx, interrupt = _registered(m, self.queue_tx), _registered(m, self.interrupt)
        for side, event in (("rx", rx), ("tx", tx)):
            self._add_frame(m, banks[f"{side}_cast"], banks[f"{side}_size"], event)
        m.d.sync += banks["rx_drop"].strobe.eq(rx.strobe & rx.dropped)
        m.d.comb += banks["rx_drop"].amounts.frames.eq(1)
        with m.Switch(rx.reason):
            for entry, reason in enumerate(PORT_DROPS):
                with m.Case(reason):
                    m.d.sync += banks["rx_drop"].entry.eq(entry)

        for name, event in (
            ("queue_rx", delivered),
            ("queue_drop", dropped),
            ("queue_tx", queue_tx),
            ("queue_interrupt", interrupt),
        ):
            m.d.sync += [banks[name].strobe.eq(event.strobe), banks[name].entry.eq(event.queue)]
        m.d.comb += [banks["queue_rx"].amounts.rx_packets.eq(1), banks["queue_interrupt"].amounts.interrupts.eq(1)]
        amounts = banks["queue_rx"].amounts
        m.d.sync += [amounts.rx_bytes.eq(delivered.length), amounts.rx_write_fault.eq(delivered.fault)]
        amounts = banks["queue_drop"].amounts
        m.d.sync += [amounts[_drop(reason)].eq(dropped.reason == reason) for reason in queue_drops(self._config)]
        amounts = banks["queue_tx"].amounts
        sent = ~queue_tx.aborted & (queue_tx.error == CompletionError.NONE)
        m.d.sync += [
            amounts.tx_packets.eq(sent),
            amounts.tx_bytes.eq(Mux(sent, queue_tx.length, 0)),
            amounts.tx_aborted.eq(queue_tx.aborted),
        ]
        for error, name in TX_ERRORS.items():
            m.d.sync += amounts[name].eq(~queue_tx.aborted & (queue_tx.error == error))

    def _add_frame(self, m, cast, size, event):
        beyond = Signal(len(SIZE_BOUNDS))
        m.d.sync += [
            cast.strobe.eq(event.strobe),
            cast.entry.eq(Mux(event.broadcast, CASTS.index("broadcast"), event.multicast)),
            cast.amounts.bytes.eq(event.length),
            size.strobe.eq(event.strobe),
            beyond.eq(Cat(event.length > bound for bound in SIZE_BOUNDS.values())),
        ]
        m.d.comb += [cast.amounts.frames.eq(1), size.amounts.frames.eq(1)]
        for entry in range(len(SIZE_BOUNDS)):
            with m.If(beyond[entry]):
                m.d.comb += size.entry.eq(entry + 1)


def _registered(m: Module, port: wiring.PureInterface) -> data.View:
    """The members of an event, one cycle later."""
    members = {name: member.shape for name, member in port.signature.members.items()}
    later = Signal(data.StructLayout(members))
    m.d.sync += [later[name].eq(getattr(port, name)) for name in members]
    return later
