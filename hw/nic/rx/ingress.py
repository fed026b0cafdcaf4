# SPDX-License-Identifier: BSD-2-Clause
"""From the wire into the packet buffer: whole good frames only."""

from types import SimpleNamespace

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import LINE_BYTES, DropReason
from hw.bus.packet import packet_stream
from hw.config import NicConfig
from hw.nic.commit_fifo import CommitFifo
from hw.nic.interfaces import TracePoint
from hw.nic.rx.headers import TAG_BYTES, ObservedBeat
from hw.nic.rx.layouts import RxFrame
from hw.nic.rx.pipeline import register_stage
from hw.nic.rx.vlan_strip import VlanStrip
from hw.nic.stats.events import RxFrameEvent

ADDRESS_BYTES = 6
MAX_COUNTED_LENGTH = (1 << 16) - 1


class RxIngress(wiring.Component):
    """Store frames as they arrive, and forward those that are whole and good.

    ::

        wire ─► registers ─► length, damage ─► limits ─► verdict ─► (tag) ─► room, position ─► packet buffer
                                                                                 └─► FIFO ─► frames

    The wire has no backpressure: ``wire.ready`` is always high, one beat a cycle. A frame's words are written behind
    those of the frame before; four cycles after its last beat the frame is either committed, and appears on ``frames``
    four cycles later, or dropped, and its words are free at once. Frames leave in the order of their last beats.

    A frame is dropped for the first of these that holds: LINK_DOWN (``rx_enable`` or ``carrier`` low at its first
    beat), BAD_FCS, RUNT, OVERSIZE, OVERFLOW (the buffer had no room for one of its beats, or for one more frame: a
    frame for each 64 bytes of buffer). Every frame gives one ``event``, five cycles after its last beat, with its
    length on the wire counted up to 65,535 whatever became of it. Beats before the first ``first`` after reset belong
    to no frame. A frame with an empty beat, or one before its last that is not full, is as damaged as one with
    ``error``: BAD_FCS. Its bytes would not lie in the buffer as its length says.

    Where ``config.classify``, :class:`hw.nic.rx.vlan_strip.VlanStrip` takes tags out of frames on the way to the
    buffer, of good ones and bad: the verdict is by what was on the wire, and ``frames``, ``beats`` and what is written
    have what is left. All that takes two cycles more for each beat, and waits for the next one of its frame; a frame
    whose last beat vanishes ends a cycle sooner.

    Room is judged a cycle ahead, by what the reader had freed another cycle before: so the buffer's last word may stay
    unused.

    Members
    -------
    wire : frames from the MAC
    rx_enable, carrier : frames are wanted; the wire is alive
    min_length, max_length : limits in bytes without FCS; none beyond ``config.max_frame`` is accepted whatever the
        latter. They may change at any time, and act on beats of the cycle before as well; a frame that once was too
        long stays so
    vlan_strip : only where ``config.classify``: C-tags are taken out. It may change at any time, and acts on tags of
        the four cycles before as well
    write_enable, write_address, write_data : to the packet buffer, five cycles after the beat
    read_pointer : from the reader: number of words read, modulo twice the buffer's; those are free
    frames : stream of :class:`hw.nic.rx.layouts.RxFrame`
    beats : every beat that belongs to a frame, five cycles after it; ``keep`` if it ends one that will appear on
        ``frames``
    event : every frame's fate
    accepted, dropped : trace points, where the frame has a serial
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._words = config.rx_buffer_bytes // config.beat_bytes
        members = {
            "wire": In(packet_stream(config.data_width, config.serial_width)),
            "rx_enable": In(1),
            "carrier": In(1),
            "min_length": In(16),
            "max_length": In(16),
            "write_enable": Out(1),
            "write_address": Out(range(self._words)),
            "write_data": Out(config.data_width),
            "read_pointer": In(range(2 * self._words)),
            "frames": Out(stream.Signature(RxFrame(config))),
            "beats": Out(stream.Signature(ObservedBeat(config), always_ready=True)),
            "event": Out(RxFrameEvent(config)),
        }
        if config.classify:
            members["vlan_strip"] = In(1)
        if config.serial_width:
            members |= {"accepted": Out(TracePoint(config)), "dropped": Out(TracePoint(config))}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.wire.ready.eq(1)
        judged = self._judge(m, self._limit(m, self._measure(m)))
        if self._config.classify:
            judged = self._strip(m, judged)
        self._report(m, judged, self._store(m, judged))
        return m

    def _measure(self, m: Module) -> SimpleNamespace:
        """Each beat of a frame, with the frame's length and state up to it."""
        beat_bytes = self._config.beat_bytes
        wire = self.wire.payload
        link = Signal()
        m.d.comb += link.eq(self.rx_enable & self.carrier)
        beat = register_stage(m, "beat", self.wire.valid, wire=wire, link=link)
        first, last, count = beat.wire.first, beat.wire.last, beat.wire.count

        active, running = Signal(), Signal()  # between a frame's first and last beat; the beat belongs to a frame
        damaged, refused = Signal(), Signal()
        length, uncounted = Signal(16), Signal()  # of the frame up to the beat before; more than a length can say
        sum_ = Signal(17)
        m.d.comb += [
            running.eq(beat.valid & (first | active)),
            sum_.eq(Mux(first, 0, length) + count),
        ]
        state = {
            "uncounted": (~first & uncounted) | sum_[16],
            "damaged": (~first & damaged) | (count == 0) | (~last & (count != beat_bytes)),
            "refused": Mux(first, ~beat.link, refused),
        }
        with m.If(running):
            m.d.sync += active.eq(~last)
        measured = register_stage(m, "measured", running, wire=beat.wire, length=sum_[:16], **state)
        m.d.comb += [
            length.eq(measured.length),
            uncounted.eq(measured.uncounted),
            damaged.eq(measured.damaged),
            refused.eq(measured.refused),
        ]
        return measured

    def _limit(self, m: Module, beat: SimpleNamespace) -> SimpleNamespace:
        """Compare the length up to each beat with the limits; and see which bytes of an address there are all ones."""
        highest = self._config.max_frame
        limit = Signal(16, init=highest)
        m.d.sync += limit.eq(Mux(self.max_length < highest, self.max_length, highest))
        return register_stage(
            m,
            "limited",
            beat.valid,
            wire=beat.wire,
            length=Mux(beat.uncounted, MAX_COUNTED_LENGTH, beat.length),
            refused=beat.refused,
            damaged=beat.damaged | beat.wire.error,
            ones=Cat(beat.wire.data[8 * i :][:8].all() for i in range(ADDRESS_BYTES)),
            short=~beat.uncounted & (beat.length < self.min_length),
            long=beat.uncounted | (beat.length > limit),
        )

    def _judge(self, m: Module, beat: SimpleNamespace) -> SimpleNamespace:
        """Whether the frame is to be dropped, for all that is known of it but room; and its destination."""
        bad, reason, long = Signal(), Signal(DropReason), Signal()
        destination, bytes_ = Signal(8 * ADDRESS_BYTES), Signal(8 * ADDRESS_BYTES)
        broadcast, multicast = Signal(), Signal()
        first, was_long = beat.wire.first, Signal()
        m.d.comb += [
            bytes_.eq(beat.wire.data[: 8 * ADDRESS_BYTES]),
            long.eq((~first & was_long) | beat.long),
            bad.eq(beat.refused | beat.damaged | beat.short | long),
            reason.eq(DropReason.OVERFLOW),
        ]
        for condition, why in (
            (long, DropReason.OVERSIZE),
            (beat.short, DropReason.RUNT),
            (beat.damaged, DropReason.BAD_FCS),
            (beat.refused, DropReason.LINK_DOWN),
        ):
            with m.If(condition):
                m.d.comb += reason.eq(why)
        judged = register_stage(
            m,
            "judged",
            beat.valid,
            wire=beat.wire,
            length=beat.length,
            long=long,
            bad=bad,
            reason=reason,
            destination=Mux(first, bytes_, destination),
            broadcast=Mux(first, beat.ones.all(), broadcast),
            multicast=Mux(first, bytes_[0] & ~beat.ones.all(), multicast),
        )
        m.d.comb += [
            was_long.eq(judged.long),
            destination.eq(judged.destination),
            broadcast.eq(judged.broadcast),
            multicast.eq(judged.multicast),
        ]
        return judged

    def _strip(self, m: Module, beat: SimpleNamespace) -> SimpleNamespace:
        """Take tags out; what is known of a frame goes along, with the length that is left of it."""
        known = ("length", "bad", "reason", "destination", "broadcast", "multicast")
        shapes = {name: getattr(beat, name).shape() for name in known}
        about = data.StructLayout(shapes | {"serial": self._config.serial_width})
        m.submodules.strip = strip = VlanStrip(self._config, about)
        given, left = strip.input.payload, strip.output.payload
        m.d.comb += [
            strip.enable.eq(self.vlan_strip),
            strip.input.valid.eq(beat.valid),
            *(given[name].eq(beat.wire[name]) for name in ("data", "count", "first", "last")),
            *(given.about[name].eq(getattr(beat, name)) for name in known),
            given.about.serial.eq(beat.wire.serial),
        ]
        wire = {name: left[name] for name in ("data", "count", "first", "last")}
        return SimpleNamespace(
            valid=strip.output.valid,
            wire=SimpleNamespace(**wire, serial=left.about.serial),
            stored=(left.about.length - Mux(strip.stripped, TAG_BYTES, 0))[:16],
            stripped=strip.stripped,
            tag=strip.tag,
            **{name: left.about[name] for name in known},
        )

    def _store(self, m: Module, beat: SimpleNamespace) -> Signal:
        """Write the frame's words while there is room; commit it at its last beat if it is good. Whether it is."""
        config = self._config
        m.submodules.fifo = fifo = CommitFifo(RxFrame(config), config.rx_buffer_bytes // LINE_BYTES)
        wiring.connect(m, wiring.flipped(self.frames), fifo.output)
        wire = beat.wire
        first, last = Signal(), Signal()
        committed, position, next_word = (Signal(range(2 * self._words), name=n) for n in ("committed", "word", "next"))
        behind = Signal.like(position)
        # Positions from here on are of no use: the buffer's last word but one lies before it.
        limit = Signal(range(2 * self._words), init=self._words - 1)
        from_limit, committed_from_limit = Signal.like(position), Signal.like(position)
        full, committed_full, blocked = Signal(), Signal(), Signal()
        overflow, overflowed = Signal(), Signal()
        accept, accepted = Signal(), Signal()
        m.d.comb += [
            first.eq(beat.valid & wire.first),
            last.eq(beat.valid & wire.last),
            position.eq(Mux(first, committed, next_word)),
            behind.eq(position + 1),
            from_limit.eq(position - limit),
            committed_from_limit.eq(committed - limit),
            # The first beat behind a frame that has just been committed lies where that frame's next beat would.
            blocked.eq(Mux(first & ~accepted, committed_full, full)),
            overflow.eq((~first & overflowed) | blocked),
            accept.eq(last & ~beat.bad & ~overflow & fifo.room),
            fifo.push.eq(accept),
            fifo.commit.eq(accept),
            fifo.payload.length.eq(beat.stored if config.classify else beat.length),
            fifo.payload.destination.eq(beat.destination),
            fifo.payload.serial.eq(wire.serial),
        ]
        if config.classify:
            m.d.comb += [fifo.payload.stripped.eq(beat.stripped), fifo.payload.tag.eq(beat.tag)]
        m.d.sync += [
            limit.eq(self.read_pointer + (self._words - 1)),
            # No further from the reader than one buffer, so the difference's sign is its highest bit.
            full.eq(~from_limit[-1]),
            committed_full.eq(~committed_from_limit[-1]),
            accepted.eq(accept),
        ]
        with m.If(beat.valid):
            # Behind a beat that is not stored no other of its frame is.
            m.d.sync += [next_word.eq(behind), overflowed.eq(overflow)]
        with m.If(accept):
            m.d.sync += committed.eq(behind)

        observed = self.beats.payload
        m.d.sync += [
            self.write_enable.eq(beat.valid & ~overflow),
            self.write_address.eq(position),
            self.write_data.eq(wire.data),
            self.beats.valid.eq(beat.valid),
            observed.count.eq(wire.count),
            observed.first.eq(wire.first),
            observed.keep.eq(accept),
        ]
        m.d.comb += observed.data.eq(self.write_data)
        return accept

    def _report(self, m: Module, beat: SimpleNamespace, accept: Signal) -> None:
        """Tell the frame's fate."""
        ends = beat.valid & beat.wire.last
        m.d.sync += self.event.strobe.eq(ends)
        with m.If(ends):
            m.d.sync += [
                self.event.length.eq(beat.length),
                self.event.broadcast.eq(beat.broadcast),
                self.event.multicast.eq(beat.multicast),
                self.event.dropped.eq(~accept),
                self.event.reason.eq(beat.reason),
            ]
        if self._config.serial_width:
            serial = beat.wire.serial
            m.d.sync += [
                self.accepted.strobe.eq(accept),
                self.accepted.serial.eq(serial),
                self.dropped.strobe.eq(ends & ~accept),
                self.dropped.serial.eq(serial),
                self.dropped.detail.eq(beat.reason),
            ]
