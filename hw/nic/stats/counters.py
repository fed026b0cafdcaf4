# SPDX-License-Identifier: BSD-2-Clause
"""All counters of the register description, fed by the datapath's events."""

from dataclasses import dataclass

from amaranth import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.abi.registers import register_map
from hw.abi.rings import CompletionError, DropReason
from hw.config import NicConfig
from hw.nic.interfaces import QueueRxEvent, QueueTxEvent, RxFrameEvent, TxFrameEvent
from hw.nic.stats.bank import COUNTER_BITS, CounterBank

#: Longest frame in memory of each RMON size class but the last, which has no bound.
SIZE_BOUNDS = {"size_64": 60, "size_127": 123, "size_255": 251, "size_511": 507, "size_1023": 1019, "size_1518": 1514}
SIZES = (*SIZE_BOUNDS, "size_max")
CASTS = ("unicast", "multicast", "broadcast")
PORT_DROPS = tuple(reason for reason in DropReason if reason.value < DropReason.QUEUE_DISABLED.value)
QUEUE_DROPS = tuple(reason for reason in DropReason if reason.value >= DropReason.QUEUE_DISABLED.value)
TX_OUTCOMES = ("tx_packets", "tx_read_fault", "tx_frame_length", "tx_offload", "tx_aborted")
LENGTH_BITS = 16


class InterruptEvent(wiring.Signature):
    """An interrupt message of a queue pair was taken by the host."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "queue": Out(range(config.queues))})


@dataclass(frozen=True)
class _Bank:
    """Counters that exclude each other. Counter ``i`` of queue ``q`` is entry ``q * stride + i``."""

    counters: tuple[str, ...]  #: names in the register description, within the port or a queue page
    queues: int = 1
    amount_width: int = 1

    @property
    def stride(self) -> int:
        return 1 << (len(self.counters) - 1).bit_length()

    def index(self, position: Value | int, queue: Value | None = None) -> Value:
        """Entry of a counter, given its place in ``counters``."""
        select = Const.cast(position) if isinstance(position, int) else position
        bits = Cat(select, Const(0, 8))[: self.stride.bit_length() - 1]
        return bits if queue is None else Cat(bits, queue)


def _drop(reason: DropReason) -> str:
    return f"drop_{reason.name.lower()}"


def _port_banks() -> dict[str, _Bank]:
    banks = {}
    for side in ("rx", "tx"):
        banks[f"{side}_frames"] = _Bank((f"{side}.frames",))
        banks[f"{side}_bytes"] = _Bank((f"{side}.bytes",), amount_width=LENGTH_BITS)
        banks[f"{side}_cast"] = _Bank(tuple(f"{side}.{name}" for name in CASTS))
        banks[f"{side}_size"] = _Bank(tuple(f"{side}.{name}" for name in SIZES))
    banks["rx_drop"] = _Bank(tuple(f"rx.{_drop(reason)}" for reason in PORT_DROPS))
    return banks


def _queue_banks(queues: int) -> dict[str, _Bank]:
    drops = tuple(f"counters.{_drop(reason)}" for reason in QUEUE_DROPS)
    return {
        "queue_rx_packets": _Bank(("counters.rx_packets",), queues),
        "queue_rx_bytes": _Bank(("counters.rx_bytes",), queues, LENGTH_BITS),
        "queue_rx_fault": _Bank(("counters.rx_write_fault",), queues),
        "queue_rx_drop": _Bank(drops, queues),
        "queue_tx_outcome": _Bank(tuple(f"counters.{name}" for name in TX_OUTCOMES), queues),
        "queue_tx_bytes": _Bank(("counters.tx_bytes",), queues, LENGTH_BITS),
        "queue_interrupts": _Bank(("counters.interrupts",), queues),
    }


class Stats(wiring.Component):
    """Counters of port and queues, one bank for each class of events that exclude each other.

    Every event is counted, also with one of each kind in every cycle. Software reads a snapshot: all counters as of the
    cycle in which ``snapshot`` was high (see :class:`hw.nic.stats.bank.CounterBank`).

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
        Take a snapshot; one is being taken. A command while busy is ignored.
    read_address : In, read_value : Out
        Offset of a counter in the register map, and its value at the last snapshot one cycle later. Zero where there is
        no counter.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._port = _port_banks()
        self._queue = _queue_banks(config.queues)
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

    def elaborate(self, platform):
        m = Module()
        banks = {}
        for name, bank in (self._port | self._queue).items():
            banks[name] = CounterBank(bank.queues * bank.stride, bank.amount_width)
            m.submodules[name] = banks[name]
            m.d.comb += [banks[name].snapshot.eq(self.snapshot & ~self.busy), banks[name].amount.eq(1)]
        m.d.comb += self.busy.eq(Cat(bank.busy for bank in banks.values()).any())

        for side, event in (("rx", self.rx), ("tx", self.tx)):
            self._count_frame(m, banks, side, event)
        m.d.comb += banks["rx_drop"].strobe.eq(self.rx.strobe & self.rx.dropped)
        with m.Switch(self.rx.reason):
            for position, reason in enumerate(PORT_DROPS):
                with m.Case(reason):
                    m.d.comb += banks["rx_drop"].index.eq(position)

        self._count_queue_rx(m, banks)
        self._count_queue_tx(m, banks)
        m.d.comb += [
            banks["queue_interrupts"].strobe.eq(self.interrupt.strobe),
            banks["queue_interrupts"].index.eq(self.interrupt.queue),
        ]
        self._read(m, banks)
        return m

    def _count_frame(self, m, banks, side, event):
        size = banks[f"{side}_size"]
        for kind in ("frames", "bytes", "cast", "size"):
            m.d.comb += banks[f"{side}_{kind}"].strobe.eq(event.strobe)
        m.d.comb += [
            banks[f"{side}_bytes"].amount.eq(event.length),
            size.index.eq(SIZES.index("size_max")),
        ]
        for position, bound in reversed(list(enumerate(SIZE_BOUNDS.values()))):
            with m.If(event.length <= bound):
                m.d.comb += size.index.eq(position)
        with m.If(event.broadcast):
            m.d.comb += banks[f"{side}_cast"].index.eq(CASTS.index("broadcast"))
        with m.Elif(event.multicast):
            m.d.comb += banks[f"{side}_cast"].index.eq(CASTS.index("multicast"))

    def _count_queue_rx(self, m, banks):
        delivered, dropped = self.queue_rx_delivered, self.queue_rx_dropped
        for kind in ("packets", "bytes", "fault"):
            bank = banks[f"queue_rx_{kind}"]
            m.d.comb += [bank.strobe.eq(delivered.strobe), bank.index.eq(delivered.queue)]
        m.d.comb += [
            banks["queue_rx_bytes"].amount.eq(delivered.length),
            banks["queue_rx_fault"].amount.eq(delivered.fault),
            banks["queue_rx_drop"].strobe.eq(dropped.strobe),
        ]
        with m.Switch(dropped.reason):
            for position, reason in enumerate(QUEUE_DROPS):
                with m.Case(reason):
                    index = self._queue["queue_rx_drop"].index(position, dropped.queue)
                    m.d.comb += banks["queue_rx_drop"].index.eq(index)

    def _count_queue_tx(self, m, banks):
        event = self.queue_tx
        outcome = Signal(range(len(TX_OUTCOMES)), init=TX_OUTCOMES.index("tx_packets"))
        for condition, name in (
            (event.error == CompletionError.READ_FAULT, "tx_read_fault"),
            (event.error == CompletionError.FRAME_LENGTH, "tx_frame_length"),
            (event.error == CompletionError.OFFLOAD, "tx_offload"),
            (event.aborted, "tx_aborted"),
        ):
            with m.If(condition):
                m.d.comb += outcome.eq(TX_OUTCOMES.index(name))
        m.d.comb += [
            banks["queue_tx_outcome"].strobe.eq(event.strobe),
            banks["queue_tx_outcome"].index.eq(self._queue["queue_tx_outcome"].index(outcome, event.queue)),
            banks["queue_tx_bytes"].strobe.eq(event.strobe & (outcome == TX_OUTCOMES.index("tx_packets"))),
            banks["queue_tx_bytes"].amount.eq(event.length),
            banks["queue_tx_bytes"].index.eq(event.queue),
        ]

    def _read(self, m, banks):
        registers = register_map(self._config.queues)
        page_bits = registers.queue_stride.bit_length() - 1
        offset, page = self.read_address[:page_bits], self.read_address[page_bits:]
        queue = Signal(range(self._config.queues))
        select = Signal(len(banks))
        m.d.comb += queue.eq(page - 1)

        def counters(description, within, queue):
            with m.Switch(offset):
                for position, name in enumerate(banks):
                    bank = description.get(name)
                    for entry, counter in enumerate(bank.counters if bank else ()):
                        with m.Case(within[counter].offset):
                            m.d.comb += [
                                banks[name].copy_index.eq(bank.index(entry, queue)),
                                select[position].eq(1),
                            ]

        with m.If(page == 0):
            counters(self._port, registers.port, None)
        with m.Elif(page <= self._config.queues):
            counters(self._queue, registers.queue, queue)

        selected = Signal.like(select)
        m.d.sync += selected.eq(select)
        for position, bank in enumerate(banks.values()):
            with m.If(selected[position]):
                m.d.comb += self.read_value.eq(bank.copy)
