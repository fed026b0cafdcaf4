# SPDX-License-Identifier: BSD-2-Clause
"""A FIFO whose writer decides afterwards whether what it wrote counts."""

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.bus.skid import SkidBuffer


class CommitFifo(wiring.Component):
    """FIFO in block RAM with transactional writes.

    In one cycle ``rewind`` acts before ``push`` and ``push`` before ``commit``: so ``rewind`` with ``push`` and
    ``commit`` replaces all that was pushed since the last commit by one entry. Only committed entries reach the output,
    in order.

    An entry appears four cycles after its commit; one entry per cycle is sustained from a depth of eight on. ``output``
    and ``room`` come from registers: what is pushed counts in the next cycle's ``room``, what is taken or rewound in
    that after the next.

    Parameters
    ----------
    shape : shape of an entry
    depth : entries, a power of two

    Members
    -------
    push, payload : write an entry; allowed only while ``room``
    commit : all that was pushed is final
    rewind : all that was pushed since the last commit is forgotten
    room : there is room for one more entry behind those pushed
    output : stream of committed entries
    """

    def __init__(self, shape: ShapeLike, depth: int):
        if not isinstance(depth, int) or isinstance(depth, bool):
            raise TypeError(f"Depth of a FIFO must be an integer, not {depth!r}")
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"Depth of a FIFO must be a power of two from 2 up, not {depth!r}")
        self._shape = shape
        self._depth = depth
        super().__init__(
            {
                "push": In(1),
                "payload": In(shape),
                "commit": In(1),
                "rewind": In(1),
                "room": Out(1),
                "output": Out(stream.Signature(shape)),
            }
        )

    @property
    def depth(self) -> int:
        """Entries that fit."""
        return self._depth

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Nothing is made of what is read where an entry is written: synthesis need not see to it.
        m.submodules.storage = storage = memory.Memory(
            shape=self._shape, depth=self._depth, init=[], attrs={"no_rw_check": 1}
        )
        write_port, read_port = storage.write_port(), storage.read_port()

        # One bit more than an address, so that a full FIFO and an empty one differ: in that bit alone.
        pointer = range(2 * self._depth)
        written, committed, fetched, taken = (
            Signal(pointer, name=n) for n in ("written", "committed", "fetched", "taken")
        )
        # Each one's successor is at hand in a register, so that `push` selects and never adds.
        behind_written, behind_committed = (
            Signal(pointer, init=1, name=n) for n in ("behind_written", "behind_committed")
        )
        base, behind_base, next_written = (Signal(pointer, name=n) for n in ("base", "behind_base", "next_written"))
        behind_next = Signal(pointer)
        full, nearly_full, full_next = Signal(), Signal(), Signal()
        m.d.comb += [
            base.eq(Mux(self.rewind, committed, written)),
            behind_base.eq(Mux(self.rewind, behind_committed, behind_written)),
            next_written.eq(Mux(self.push, behind_base, base)),
            behind_next.eq(Mux(self.push, behind_base + 1, behind_base)),
            full.eq((written ^ taken) == self._depth),
            nearly_full.eq((behind_written ^ taken) == self._depth),
            write_port.en.eq(self.push),
            write_port.addr.eq(base),
            write_port.data.eq(self.payload),
            self.room.eq(~full_next),
        ]
        m.d.sync += [
            written.eq(next_written),
            behind_written.eq(behind_next),
            full_next.eq(full | (nearly_full & self.push)),
        ]
        with m.If(self.commit):
            m.d.sync += [committed.eq(next_written), behind_committed.eq(behind_next)]

        # What the memory has read goes to a register before any logic, and on through a skid buffer, so that the read
        # port hears of `ready` from registers.
        m.submodules.skid = skid = SkidBuffer(self._shape)
        wiring.connect(m, skid.output, wiring.flipped(self.output))
        loaded, more, moves = Signal(), Signal(), Signal()
        read = Signal(self._shape, reset_less=True)
        m.d.comb += [
            skid.input.payload.eq(read),
            more.eq(fetched != committed),
            moves.eq(~skid.input.valid | skid.input.ready),
            read_port.en.eq(~loaded | moves),
            read_port.addr.eq(fetched),
        ]
        with m.If(read_port.en):
            m.d.sync += [loaded.eq(more), fetched.eq(fetched + more)]
        with m.If(moves):
            m.d.sync += [skid.input.valid.eq(loaded), read.eq(read_port.data)]
        with m.If(self.output.valid & self.output.ready):
            m.d.sync += taken.eq(taken + 1)
        return m
