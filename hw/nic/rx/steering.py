# SPDX-License-Identifier: BSD-2-Clause
"""Which queue a frame belongs to."""

from typing import Any

from amaranth.hdl import Cat, Module, Shape, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, flipped

from hw.abi.registers import register_map
from hw.bus.join import join
from hw.config import NicConfig
from hw.nic.interfaces import QueueWrite
from hw.nic.rx.interfaces import RssControl, RuleWindow
from hw.nic.rx.layouts import ParsedFrame, SteeredFrame
from hw.nic.rx.rss import RssResult, RxRss
from hw.nic.rx.rules import RuleResult, RuleTable

_FRAMES = 16  #: twice as many as wait for a lookup at one frame a cycle


class RxSteering(wiring.Component):
    """Choose each frame's queue. The first of these that has one for the frame gives it:

    - an exact steering rule (:class:`hw.nic.rx.rules.RuleTable`, where ``config.steering_rules``);
    - the lowest queue whose MAC_ADDRESS register is enabled and equals the destination;
    - RSS (:class:`hw.nic.rx.rss.RxRss`, where ``config.rss``); its hash, and whether it has the ports, also go into the
      frame's information;
    - ``default_queue``; if it does not exist, the frame leaves with ``routed`` off, as queue 0's to drop.

    A write of MAC_ADDRESS or ``default_queue`` acts on frames that enter in later cycles.

    ::

                ┌─► frames, and their queue by address or default ─┐
        input ──┼─► RSS ─► results ────────────────────────────────┼─► output
                └─► rules ─► results ──────────────────────────────┘

    Order is kept. At 512 bits a frame enters every cycle, unless ``output`` stalls; with RSS or rules, one enters every
    second cycle at 256 bits, every fourth at 128, and every eighth (RSS) or fourth (rules) at 64: as fast as the
    shortest can come. A frame takes two cycles; with lookups, two more than the slower one (6 or 7 at 512 bits, 13 or
    10 at 64). After a reset no frame enters until the table of rules has been cleared.

    Members
    -------
    write : register writes to the queues' pages
    default_queue : register STEERING
    rss, rules : registers, where RSS and rules are built in
    input : stream of :class:`hw.nic.rx.layouts.ParsedFrame`
    output : stream of :class:`hw.nic.rx.layouts.SteeredFrame`
    """

    def __init__(self, config: NicConfig):
        self._config = config
        members = {
            "write": In(QueueWrite(config)),
            "default_queue": In(8),
            "input": In(stream.Signature(ParsedFrame(config))),
            "output": Out(stream.Signature(SteeredFrame(config))),
        }
        if config.rss:
            members["rss"] = In(RssControl())
        if config.steering_rules:
            members["rules"] = In(RuleWindow())
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        arrived = self._arrive(m)
        if self._config.rss or self._config.steering_rules:
            self._look_up(m, arrived)
            return m
        # Addresses are compared in one cycle, and one of the queues chosen in the next.
        valid, moves, entered = Signal(), Signal(), Signal.like(arrived)
        target, _ = self._by_address(m, entered)
        m.d.comb += [
            moves.eq(~self.output.valid | self.output.ready),
            self.input.ready.eq(~valid | moves),
        ]
        with m.If(self.input.ready):
            m.d.sync += [valid.eq(self.input.valid), entered.eq(arrived)]
        with m.If(moves):
            m.d.sync += [self.output.valid.eq(valid), self.output.payload.eq(target)]
        return m

    def _arrive(self, m: Module) -> Any:
        """The frame that is offered, the queues whose MAC_ADDRESS is its destination, a bit each, and the default."""
        register = register_map(self._config.queues).queue["mac_address"]
        address_field, enable_field = register.fields["address"], register.fields["enable"]
        kept = {name: field.shape for name, field in SteeredFrame(self._config) if name not in ("queue", "routed")}
        arrived = Signal(data.StructLayout(kept | {"matches": self._config.queues, "default_queue": 8}))
        m.d.comb += [arrived[name].eq(self.input.payload[name]) for name in kept]
        m.d.comb += arrived.default_queue.eq(self.default_queue)
        for queue in range(self._config.queues):
            address, enable = Signal(address_field.width, name=f"mac_{queue}"), Signal(name=f"mac_{queue}_enable")
            with m.If(self.write.at.mac_address & (self.write.queue == queue)):
                m.d.sync += [
                    address.eq(self.write.data >> address_field.lsb),
                    enable.eq(self.write.data[enable_field.lsb]),
                ]
            m.d.comb += arrived.matches[queue].eq(enable & (address == self.input.payload.destination))
        return arrived

    def _by_address(self, m: Module, arrived: Any) -> tuple[Any, Value]:
        """The frame with its queue by destination address or default, and whether the address gave it."""
        target = Signal.like(self.output.payload)
        claimed, exists = arrived.matches.any(), arrived.default_queue < self._config.queues
        m.d.comb += [
            target.length.eq(arrived.length),
            target.info.eq(arrived.info),
            target.serial.eq(arrived.serial),
            target.routed.eq(claimed | exists),
        ]
        with m.If(exists):
            m.d.comb += target.queue.eq(arrived.default_queue)
        # The last assignment wins, so the lowest queue comes last.
        for queue in reversed(range(self._config.queues)):
            with m.If(arrived.matches[queue]):
                m.d.comb += target.queue.eq(queue)
        return target, claimed

    def _look_up(self, m: Module, arrived: Any) -> None:
        """Ask RSS and the rules, and choose where all have answered."""
        config = self._config
        start, go, hashed, hashed_ports = Signal(), Signal(), Signal(), Signal()
        # A frame begins to wait a cycle after the lookups have begun: they take longer than that.
        started, entered = Signal(), Signal.like(arrived)
        m.d.sync += [
            started.eq(start),
            entered.eq(arrived),
            entered.info.hash_valid.eq(hashed),
            entered.info.hash_ports.eq(hashed_ports),
        ]
        target, claimed = self._by_address(m, entered)
        waiting = data.StructLayout({"frame": SteeredFrame(config), "claimed": 1})
        frames, frame = self._results(m, "frames", waiting, Cat(target, claimed), started, go)
        ready, answered = [frames.w_level < _FRAMES // 2], [frames.r_rdy]
        chosen = Signal.like(self.output.payload)
        m.d.comb += chosen.eq(frame.frame)

        if config.rss:
            m.submodules.rss = rss = RxRss(config)
            join(m, flipped(self.rss), rss.control)
            results, result = self._results(m, "hashes", RssResult(config), rss.result, rss.done, go)
            m.d.comb += [hashed.eq(rss.hashed), hashed_ports.eq(rss.hashed_ports)]
            with m.If(frame.frame.info.hash_valid):
                m.d.comb += chosen.info.rss_hash.eq(result.hash)
                with m.If(~frame.claimed):
                    m.d.comb += [chosen.queue.eq(result.queue), chosen.routed.eq(1)]
            ready.append(rss.ready)
            answered.append(results.r_rdy)
            self._begin(m, rss, start)
        if config.steering_rules:
            m.submodules.rules = rules = RuleTable(config)
            join(m, flipped(self.rules), rules.window)
            results, ruled = self._results(m, "ruled", RuleResult(config), rules.result, rules.done, go)
            with m.If(ruled.found):
                m.d.comb += [chosen.queue.eq(ruled.queue), chosen.routed.eq(1)]
            ready.append(rules.ready)
            answered.append(results.r_rdy)
            self._begin(m, rules, start)

        m.d.comb += [
            self.input.ready.eq(Cat(ready).all()),
            start.eq(self.input.valid & self.input.ready),
            go.eq(Cat(answered).all() & (~self.output.valid | self.output.ready)),
        ]
        with m.If(go):
            m.d.sync += [self.output.valid.eq(1), self.output.payload.eq(chosen)]
        with m.Elif(self.output.ready):
            m.d.sync += self.output.valid.eq(0)

    def _begin(self, m: Module, lookup: RxRss | RuleTable, start: Value) -> None:
        m.d.comb += [
            lookup.start.eq(start),
            lookup.packet_type.eq(self.input.payload.info.packet_type),
            lookup.flow.eq(self.input.payload.flow),
        ]

    def _results(self, m: Module, name: str, layout: Any, value: Any, write: Value, read: Value) -> tuple[Any, Any]:
        """A FIFO that has room for a result of each frame that waits, and its oldest entry."""
        m.submodules[name] = fifo = SyncFIFO(width=Shape.cast(layout).width, depth=_FRAMES)
        m.d.comb += [fifo.w_data.eq(value), fifo.w_en.eq(write), fifo.r_en.eq(read)]
        return fifo, data.View(layout, fifo.r_data)
