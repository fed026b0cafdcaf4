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

    An entry appears two cycles after its commit; one entry per cycle is sustained.

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

        # One bit more than an address, so that a full FIFO and an empty one differ.
        pointer = range(2 * self._depth)
        written, committed, read = Signal(pointer), Signal(pointer), Signal(pointer)
        base, next_written, next_read = Signal(pointer), Signal(pointer), Signal(pointer)
        m.d.comb += [
            self.room.eq((written - read)[: len(written)] != self._depth),
            base.eq(Mux(self.rewind, committed, written)),
            next_written.eq(base + self.push),
            next_read.eq(read + (self.output.valid & self.output.ready)),
            write_port.en.eq(self.push),
            write_port.addr.eq(base),
            write_port.data.eq(self.payload),
            read_port.addr.eq(next_read),
            self.output.payload.eq(read_port.data),
        ]
        m.d.sync += [
            written.eq(next_written),
            read.eq(next_read),
            # The read port samples what was written before this edge, which is all that is committed by now.
            self.output.valid.eq(next_read != committed),
        ]
        with m.If(self.commit):
            m.d.sync += committed.eq(next_written)
        return m
