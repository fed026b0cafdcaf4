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

        # What the memory has read goes on through a skid buffer, so its read port hears of `ready` from registers.
        m.submodules.skid = skid = SkidBuffer(self._shape)
        wiring.connect(m, skid.output, wiring.flipped(self.output))
        loaded, more = Signal(), Signal()
        m.d.comb += [
            more.eq(fetched != committed),
            read_port.en.eq(~loaded | skid.input.ready),
            read_port.addr.eq(fetched),
            skid.input.valid.eq(loaded),
            skid.input.payload.eq(read_port.data),
        ]
        with m.If(read_port.en):
            m.d.sync += [loaded.eq(more), fetched.eq(fetched + more)]
        with m.If(self.output.valid & self.output.ready):
            m.d.sync += taken.eq(taken + 1)
        return m
