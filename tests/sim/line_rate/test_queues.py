# SPDX-License-Identifier: BSD-2-Clause
"""The bench's receiver tells of its buffers in lots, as drivers do, and of every one that the NIC could starve for."""

from unittest.mock import Mock

import numpy as np
import pytest

from hw.abi.codec import Codec
from hw.abi.registers import register_map
from hw.abi.rings import ENTRY_BYTES, RxCompletion
from sim.line_rate.frames import NumberedFrames
from sim.line_rate.queues import Buffers, Receiver
from sim.traffic.flows import mac_value, queue_mac

COMPLETION = Codec(RxCompletion)
REGISTERS = register_map(1)
LENGTH = 60
STRIDE = 2048


class Bench:
    """A receiver on plain memory, and what a NIC would do there."""

    def __init__(self, entries: int):
        self.memory = np.zeros(2 * entries * ENTRY_BYTES + entries * STRIDE, np.uint8)
        self.entries = entries
        self.mailbox = Mock()
        self.frames = NumberedFrames(LENGTH, flows=1, queues=1, seed=1)
        self.buffers = Buffers(2 * entries * ENTRY_BYTES, STRIDE, 0, STRIDE, entries)
        self.receiver = Receiver(
            self.memory, self.mailbox, REGISTERS, 0, 0, self.buffers, self.frames, entries=self.buffers.count
        )
        self.receiver.start(mac_value(queue_mac(0)))
        self.done = 0

    def complete(self, count: int) -> None:
        """So many frames arrive, each in the buffer of its ring entry."""
        for number in range(self.done, self.done + count):
            place = number % self.entries
            self.buffers.rows(self.memory)[place, :LENGTH] = self.frames.make(np.array([number]))[0]
            flags = COMPLETION.mask("flags", "end_of_packet")
            if number // self.entries % 2 == 0:
                flags |= COMPLETION.mask("flags", "phase")
            entry = COMPLETION.pack(buffer_id=place, length=LENGTH, flags=flags)
            start = (self.entries + place) * ENTRY_BYTES
            self.memory[start : start + ENTRY_BYTES] = np.frombuffer(entry, np.uint8)
        self.done += count

    def doorbells(self) -> list[tuple[int, int]]:
        """Index of the producer and of the consumer of each so far."""
        register = REGISTERS.queue["rx_doorbell"]
        address = REGISTERS.address("rx_doorbell", 0)
        values = [call.args[1] for call in self.mailbox.write_register.call_args_list if call.args[0] == address]
        return [
            tuple(register.get(value, name) for name in ("fill_producer", "completion_consumer")) for value in values
        ]


def test_a_doorbell_gives_a_lot_of_buffers_back():
    bench = Bench(256)
    assert bench.doorbells() == [(256, 0)]
    for count in (8, 8, 8, 7):
        bench.complete(count)
        assert bench.receiver.poll() == count
    assert bench.doorbells() == [(256, 0)]
    bench.complete(9)
    assert bench.receiver.poll() == 9
    assert bench.doorbells() == [(256, 0), (296, 40)]


@pytest.mark.parametrize("entries", [8, 64])
def test_of_a_small_ring_at_most_an_eighth_is_held_back(entries):
    bench = Bench(entries)
    for count in range(1, 3 * entries):
        bench.complete(1)
        bench.receiver.poll()
        assert entries + count - bench.doorbells()[-1][0] < max(2, entries // 8)
