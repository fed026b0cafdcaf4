# SPDX-License-Identifier: BSD-2-Clause
"""A FIFO whose writer decides afterwards whether what it wrote counts."""

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out


class CommitFifo(wiring.Component):
    """FIFO in block RAM with transactional writes.

    In one cycle ``rewind`` acts before ``push`` and ``push`` before ``commit``: so ``rewind`` with ``push`` and
    ``commit`` replaces all that was pushed since the last commit by one entry. Only committed entries reach the output,
    in order.

    An entry appears three cycles after its commit; one entry per cycle is sustained. The output is registered.

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
        m.submodules.storage = storage = memory.Memory(shape=self._shape, depth=self._depth, init=[])
        write_port, read_port = storage.write_port(), storage.read_port()

        # One bit more than an address, so that a full FIFO and an empty one differ: in that bit alone.
        pointer = range(2 * self._depth)
        written, committed, fetched, taken = (
            Signal(pointer, name=n) for n in ("written", "committed", "fetched", "taken")
        )
        base, next_written = Signal(pointer), Signal(pointer)
        m.d.comb += [
            self.room.eq((written ^ taken) != self._depth),
            base.eq(Mux(self.rewind, committed, written)),
            next_written.eq(base + self.push),
            write_port.en.eq(self.push),
            write_port.addr.eq(base),
            write_port.data.eq(self.payload),
        ]
        m.d.sync += written.eq(next_written)
        with m.If(self.commit):
            m.d.sync += committed.eq(next_written)

        # Behind the memory's own register come the output's, and a spare one: what a stalled output does not take goes
        # there, and only the cycle after does the memory stop. So its read port hears of `ready` from registers.
        loaded, reads, more, moves = Signal(), Signal(), Signal(), Signal()
        spare, spare_valid = Signal(self._shape), Signal()
        m.d.comb += [
            more.eq(fetched != committed),
            reads.eq(~(loaded & spare_valid)),
            read_port.en.eq(reads),
            read_port.addr.eq(fetched),
            moves.eq(~self.output.valid | self.output.ready),
        ]
        with m.If(reads):
            m.d.sync += [loaded.eq(more), fetched.eq(fetched + more)]
        with m.If(moves):
            m.d.sync += [
                self.output.valid.eq(loaded | spare_valid),
                self.output.payload.eq(Mux(spare_valid, spare, read_port.data)),
                spare_valid.eq(0),
            ]
        with m.Elif(loaded & ~spare_valid):
            m.d.sync += [spare.eq(read_port.data), spare_valid.eq(1)]
        with m.If(self.output.valid & self.output.ready):
            m.d.sync += taken.eq(taken + 1)
        return m
