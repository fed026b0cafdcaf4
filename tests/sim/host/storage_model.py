# SPDX-License-Identifier: BSD-2-Clause
"""The storage primitive as a process of Amaranth's simulator, for tests of one component."""

from typing import Any

from amaranth.sim import Simulator


def attach_storage(sim: Simulator, port: Any, memory: bytearray) -> None:
    """Serve a ``StoragePort``: read latency 1, reads before writes, addresses checked."""
    word = len(port.read_data) // 8

    async def process(ctx: Any) -> None:
        signals = (
            port.read_enable,
            port.read_address,
            port.write_enable,
            port.write_address,
            port.write_data,
            port.write_strobe,
            *((port.write_exchange, port.write_expected) if port.signature.exchange else ()),
        )
        async for _, _, read, read_at, write, write_at, data, strobe, *exchange in ctx.tick().sample(*signals):
            if read:
                assert read_at % word == 0, f"storage read at {read_at:#x} is not aligned"
                assert read_at < len(memory), f"storage read at {read_at:#x}"
                ctx.set(port.read_data, int.from_bytes(memory[read_at : read_at + word], "little"))
            if write and any(exchange[:1]):
                start = write_at + ((strobe & -strobe).bit_length() - 1) // 8 * 8
                write = int.from_bytes(memory[start : start + 8], "little") == exchange[1]
                ctx.set(port.write_exchanged, write)
            if write:
                assert write_at % word == 0, f"storage write at {write_at:#x} is not aligned"
                assert write_at < len(memory), f"storage write at {write_at:#x}"
                for lane, byte in enumerate(data.to_bytes(word, "little")):
                    if strobe >> lane & 1:
                        memory[write_at + lane] = byte

    sim.add_process(process)
