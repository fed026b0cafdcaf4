# SPDX-License-Identifier: BSD-2-Clause
"""Poll mode and its mempool: no interrupts, no DMA API, and memory that goes with its last buffer."""

from driver_model.drivers.strategies.bypass import BUFFER_BYTES, POOL_FACTOR, Bypass
from driver_model.net.napi import Napi
from tests.driver_model.bench import Bench, frames


def test_a_packet_costs_two_calls_of_the_mempool() -> None:
    bench = Bench()
    bypass = Bypass(bench.host.devices[0], 64, Napi(bench.host.softnets[0], lambda budget: 0))
    assert bypass.pool.count == POOL_FACTOR * 64
    got = bypass.allocate()
    assert got is not None
    assert got[0] == got[1].address + bypass.headroom
    assert bypass.received(got[1], 60) is got[1]
    assert bypass.transmit(got[1], 60) == got[0]
    bypass.transmitted(got[1], 60)
    assert bypass.headroom + bypass.buffer_length + 320 == bypass.buffer_size == BUFFER_BYTES
    counts = {name: bench.core.op(name).count for name in ("mempool.get", "mempool.put", "dma.map", "dma.unmap")}
    assert counts == {"mempool.get": 1, "mempool.put": 1, "dma.map": 0, "dma.unmap": 0}


def test_memory_goes_with_the_last_buffer() -> None:
    bench = Bench()
    bypass = Bypass(bench.host.devices[0], 64, Napi(bench.host.softnets[0], lambda budget: 0))
    kept = bypass.allocate()
    assert kept is not None
    bypass.close()
    assert bypass.in_flight == 1
    assert bench.host.pages_in_use > 0
    bypass.release(kept[1])
    assert (bypass.in_flight, bench.host.pages_in_use) == (0, 0)


def test_an_empty_pool_is_counted() -> None:
    bench = Bench()
    bypass = Bypass(bench.host.devices[0], 64, Napi(bench.host.softnets[0], lambda budget: 0))
    while bypass.allocate() is not None:
        pass
    assert bypass.statistics() == {"rx_mempool_empty": 1}


def test_nothing_interrupts_and_looking_costs_no_frames() -> None:
    sent = frames(500, 3)
    bench = Bench("bypass", "pass", expected=[sent])

    def run() -> None:
        bench.start()
        bench.core.sleep_until(bench.core.time + 10**8)
        bench.nic.receive(0, sent)
        bench.wait(lambda: bench.collector.received == [500], "every frame")
        bench.finish()

    bench.run(run)
    assert bench.total("interrupts") == 0
    count = bench.core.op
    assert count("pmd.poll").count > 0
    assert count("pmd.rx").count == count("pmd.run").count == 500
    assert count("rx.descriptor").count == count("napi.poll").count == 0
