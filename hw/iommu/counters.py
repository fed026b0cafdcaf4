# SPDX-License-Identifier: BSD-2-Clause
"""Performance counters (sections 6.19 to 6.23)."""

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import Event
from hw.abi.rings import AddressType
from hw.config import IommuConfig
from hw.iommu.interfaces import EventsSignature, LookupEvent
from hw.iommu.register_access import ROW_BITS, RegisterWrite, merged, register_layout, row_of, written

INCREMENT_BITS = 9


class EventCounter(wiring.Component):
    """One counter and its selector, ``iohpmctr`` and ``iohpmevt`` of a number. An event counts in the second cycle
    after it, unless software writes the counter in that cycle. A selector that is written in the cycle in which the
    counter wraps is written before: its OF decides whether that interrupts.

    Which events a filter applies to is said at :file:`hw/abi/iommu.rdl`, iohpmevt.

    Ports
    -----
    write : In
        Register writes.
    inhibit : In
        Nothing counts.
    events, debug : In
        What happens in this cycle, to requests of devices and of the debug registers.
    counter, selector : Out
        Registers.
    overflowed : Out
        For one cycle: OF is about to become 1.
    """

    def __init__(self, number: int):
        self._number = number
        super().__init__(
            {
                "write": In(RegisterWrite),
                "inhibit": In(1),
                "events": In(EventsSignature()),
                "debug": In(LookupEvent),
                "counter": Out(64),
                "selector": Out(register_layout("iohpmevt1")),
                "overflowed": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        control, value = f"iohpmevt{self._number}", f"iohpmctr{self._number}"
        increment, amount = Signal(INCREMENT_BITS), Signal(INCREMENT_BITS)
        self._select(m, amount)
        m.d.sync += increment.eq(Mux(self.inhibit, 0, amount))

        total, wraps = Signal(64), Signal()
        selector = Signal.like(self.selector)
        m.d.comb += [
            total.eq(self.counter + increment),
            wraps.eq(total < increment),
            selector.eq(self.selector),
            self.overflowed.eq(wraps & ~selector.of & ~written(self.write, value)),
        ]
        with m.If(written(self.write, control)):
            m.d.comb += selector.eq(merged(self.write, control, self.selector))
        m.d.sync += self.selector.eq(selector)
        with m.If(written(self.write, value)):
            m.d.sync += self.counter.eq(merged(self.write, value, self.counter).as_value())
        with m.Elif(increment.any()):
            m.d.sync += self.counter.eq(total)
            with m.If(wraps):
                m.d.sync += self.selector.of.eq(1)
        return m

    def _select(self, m: Module, amount: Signal) -> None:
        """How much the selected event counts in this cycle."""
        walk, lookups = self.events.walk, [*self.events.lookups, self.debug]
        seen = [self._lets_through(m, f"lookup_{k}", event) for k, event in enumerate(lookups)]
        walked = self._lets_through(m, "walk", walk)
        by_device = ~self.selector.idt
        unfiltered = ~self.selector.pv_pscv & ~self.selector.dv_gscv

        def requests(kind: AddressType) -> Value:
            return sum(
                (
                    e.strobe & s & by_device & (e.requester.address_type == kind)
                    for e, s in zip(lookups, seen, strict=True)
                ),
                Const(0),
            )

        amounts = {
            Event.UNTRANSLATED: requests(AddressType.UNTRANSLATED),
            Event.TRANSLATED: requests(AddressType.TRANSLATED),
            Event.ATS_REQUEST: requests(AddressType.TRANSLATION_REQUEST),
            Event.TLB_MISS: sum(
                (
                    e.strobe & e.miss & s & (e.requester.address_type != AddressType.PREFETCH)
                    for e, s in zip(lookups, seen, strict=True)
                ),
                Const(0),
            ),
            Event.DIRECTORY_WALK: walk.directory & walked & by_device,
            Event.FIRST_WALK: walk.first & walked,
            Event.SECOND_WALK: walk.second & walked,
            Event.TABLE_READ: walk.read & walked,
            Event.WALK_CACHE_HIT: walk.cache_hit & walked,
            Event.INVALIDATED: Mux(unfiltered, self.events.invalidated, 0),
            Event.PREFETCH: requests(AddressType.PREFETCH),
            Event.PREFETCH_DROPPED: sum(
                (e.strobe & e.dropped & s & by_device for e, s in zip(lookups, seen, strict=True)), Const(0)
            ),
            Event.FAULT: Mux(unfiltered, self.events.faults[0] + self.events.faults[1], 0),
        }
        with m.Switch(self.selector.eventid):
            for event, count in amounts.items():
                with m.Case(event):
                    m.d.comb += amount.eq(count)

    def _lets_through(self, m: Module, name: str, event: Any) -> Signal:
        """Whether the filter lets an event of this requester and space through."""
        selector, requester, space = self.selector, event.requester, event.space
        outer, inner = Signal(24, name=f"{name}_outer"), Signal(20, name=f"{name}_inner")
        outer_valid, inner_valid = Signal(name=f"{name}_outer_valid"), Signal(name=f"{name}_inner_valid")
        passes = Signal(name=f"{name}_passes")
        ignored = Mux(selector.dmask, selector.did_gscid ^ (selector.did_gscid + 1), 0)
        with m.If(selector.idt):
            m.d.comb += [
                Cat(outer, inner).eq(Cat(space.gscid, Const(0, 8), space.pscid)),
                Cat(outer_valid, inner_valid).eq(Cat(space.second, space.first)),
            ]
        with m.Else():
            m.d.comb += [
                Cat(outer, inner).eq(Cat(requester.device_id, requester.process_id)),
                Cat(outer_valid, inner_valid).eq(Cat(Const(1), requester.process_id_valid)),
            ]
        outer_fits = outer_valid & (((outer ^ selector.did_gscid) & ~ignored) == 0)
        inner_fits = inner_valid & (inner == selector.pid_pscid)
        m.d.comb += passes.eq((outer_fits | ~selector.dv_gscv) & (inner_fits | ~selector.pv_pscv))
        return passes


class Counters(wiring.Component):
    """iohpmcycles and ``config.counters`` event counters, with their inhibit and overflow registers; nothing of it if
    there are none.

    Ports
    -----
    write : In
        Register writes.
    row, value : In, Out
        A row of registers and what the counters have there; combinational.
    events, debug : In
        See :class:`EventCounter`.
    overflowed : Out
        For one cycle: an OF is about to become 1.
    """

    def __init__(self, config: IommuConfig):
        self._counters = config.counters
        super().__init__(
            {
                "write": In(RegisterWrite),
                "row": In(ROW_BITS),
                "value": Out(64),
                "events": In(EventsSignature()),
                "debug": In(LookupEvent),
                "overflowed": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if not self._counters:
            return m
        inhibit = Signal(1 + self._counters)
        with m.If(written(self.write, "iocountinh")):
            m.d.sync += inhibit.eq(merged(self.write, "iocountinh", Const(0, 32)).as_value())

        cycles, total = Signal(register_layout("iohpmcycles")), Signal(64)
        cycles_overflow = Signal()
        m.d.comb += total.eq(cycles.counter + 1)
        with m.If(written(self.write, "iohpmcycles")):
            m.d.sync += cycles.eq(merged(self.write, "iohpmcycles", cycles))
        with m.Elif(~inhibit[0]):
            m.d.comb += cycles_overflow.eq(total[63] & ~cycles.of)
            m.d.sync += [cycles.counter.eq(total), cycles.of.eq(cycles.of | total[63])]

        flags, overflows = [cycles.of], [cycles_overflow]
        rows = {row_of("iohpmcycles"): cycles.as_value()}
        for number in range(1, self._counters + 1):
            m.submodules[f"counter_{number}"] = counter = EventCounter(number)
            m.d.comb += [
                counter.write.eq(self.write),
                counter.inhibit.eq(inhibit[number]),
                counter.debug.eq(self.debug),
            ]
            wiring.connect(m, wiring.flipped(self.events), counter.events)
            flags.append(counter.selector.of)
            overflows.append(counter.overflowed)
            rows[row_of(f"iohpmctr{number}")] = counter.counter
            rows[row_of(f"iohpmevt{number}")] = counter.selector.as_value()
        rows[row_of("iocountovf")] = Cat(Cat(flags).as_unsigned() | Const(0, 32), inhibit)
        m.d.comb += self.overflowed.eq(Cat(overflows).any())
        with m.Switch(self.row):
            for row, value in rows.items():
                with m.Case(row):
                    m.d.comb += self.value.eq(value)
        return m
