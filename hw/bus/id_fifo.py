# SPDX-License-Identifier: BSD-2-Clause
"""A queue for each AXI ID, all in one memory: what a burst needs to know when its responses come back."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.hdl import Shape, ShapeLike
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.bus.marks import Marks


class IdFifo(wiring.Component):
    """``2**id_width`` queues of ``depth`` entries, and a scratch word beside each queue's head.

    All outputs are combinational from the IDs; pushes, pops and steps take effect on the clock edge. In one cycle one
    entry may be pushed and one popped, of the same ID or of different ones. An entry can be looked at from the cycle
    after its push.

    Parameters
    ----------
    shape : of an entry
    id_width : bits of an ID
    depth : entries of each ID, a power of two
    scratch_width : bits of the scratch word

    Ports
    -----
    push, push_id, push_data : append an entry; only with ``push_ready``
    push_ready : the queue of ``push_id`` has room
    head_id : the queue looked at
    head : its oldest entry; means nothing if the queue is empty
    scratch : its scratch word, 0 when an entry becomes the head
    step, scratch_next : set the scratch word
    pop : remove the head; takes precedence over ``step``
    """

    def __init__(self, shape: ShapeLike, *, id_width: int, depth: int, scratch_width: int = 0):
        if not isinstance(id_width, int) or not 1 <= id_width <= 16:
            raise ValueError(f"ID width must be in 1..16 bits, not {id_width!r}")
        if not isinstance(depth, int) or depth < 1 or depth & (depth - 1):
            raise ValueError(f"Depth of an ID's queue must be a power of two, not {depth!r}")
        self.shape = shape
        self.id_width = id_width
        self.depth = depth
        self.scratch_width = scratch_width
        super().__init__(
            {
                "push": In(1),
                "push_id": In(id_width),
                "push_data": In(shape),
                "push_ready": Out(1),
                "head_id": In(id_width),
                "head": Out(shape),
                "scratch": Out(scratch_width),
                "step": In(1),
                "scratch_next": In(scratch_width),
                "pop": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        ids = 1 << self.id_width
        slot_bits = (self.depth - 1).bit_length()
        pointer = slot_bits + 1
        reader = data.StructLayout({"pointer": pointer, "scratch": self.scratch_width})

        m.submodules.entries = entries = Memory(shape=Shape.cast(self.shape), depth=ids * self.depth, init=[])
        m.submodules.tails = tails = Memory(shape=pointer, depth=ids, init=[])
        m.submodules.heads = heads = Memory(shape=reader, depth=ids, init=[])
        # Memories survive reset; a word counts only if it was written since.
        tail_valid = Marks(m, "tail_valid", self.id_width)
        head_valid = Marks(m, "head_valid", self.id_width)

        tail_read = tails.read_port(domain="comb")
        push_head = heads.read_port(domain="comb")
        head_read = heads.read_port(domain="comb")
        entry_read = entries.read_port(domain="comb")
        entry_write = entries.write_port()
        tail_write = tails.write_port()
        head_write = heads.write_port()

        tail = Signal(pointer)
        oldest = Signal(pointer)
        current = Signal(reader)
        m.d.comb += [
            tail_read.addr.eq(self.push_id),
            push_head.addr.eq(self.push_id),
            head_read.addr.eq(self.head_id),
            tail.eq(Mux(tail_valid.has(self.push_id), tail_read.data, 0)),
            oldest.eq(Mux(head_valid.has(self.push_id), push_head.data.pointer, 0)),
            self.push_ready.eq((tail - oldest)[:pointer] != self.depth),
        ]
        with m.If(head_valid.has(self.head_id)):
            m.d.comb += current.eq(head_read.data)
        m.d.comb += [
            entry_read.addr.eq(Cat(current.pointer[:slot_bits], self.head_id)),
            Value.cast(self.head).eq(entry_read.data),
            self.scratch.eq(current.scratch),
            entry_write.addr.eq(Cat(tail[:slot_bits], self.push_id)),
            entry_write.data.eq(Value.cast(self.push_data)),
            entry_write.en.eq(self.push),
            tail_write.addr.eq(self.push_id),
            tail_write.data.eq(tail + 1),
            tail_write.en.eq(self.push),
            head_write.addr.eq(self.head_id),
            head_write.data.pointer.eq(current.pointer + self.pop),
            head_write.data.scratch.eq(Mux(self.pop, 0, self.scratch_next)),
            head_write.en.eq(self.pop | self.step),
        ]
        tail_valid.mark(self.push, self.push_id)
        head_valid.mark(self.pop | self.step, self.head_id)
        return m
