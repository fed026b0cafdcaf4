# SPDX-License-Identifier: BSD-2-Clause
"""The handle of a hardware pool: every register of its page, every refusal, and what does not end."""

from collections.abc import Callable
from typing import Any

import pytest

from driver_model.drivers.device import DeviceError
from driver_model.drivers.hardware_pool import HardwarePool
from driver_model.drivers.pool_report import TAKEN, BufferReport, MisuseReport, PoolError
from hw.abi.pools import BufferState, PoolState, RecycleError, RecycleSource
from tests.driver_model.bench import Bench
from tests.driver_model.fake_pools import FakePool

IDS = 16
LENGTH = 2048


class Kit:
    """Pool 1 of two, seen from both sides."""

    def __init__(self) -> None:
        self.bench = Bench(pools=2, pool_buffers=IDS, checked=False)
        self.pool = HardwarePool(self.bench.core, self.bench.nic.map, 1, IDS)

    @property
    def device(self) -> FakePool:
        """The device's side."""
        return self.bench.nic.pools[1]

    def run(self, test: Callable[[], Any], *, enable: bool = True, buffers: int = 8) -> Any:
        """Run a test in a process, with some buffers in the pool."""

        def process() -> Any:
            if enable:
                self.pool.enable()
                for buffer_id in range(buffers):
                    self.pool.join(buffer_id, 4096 * buffer_id, LENGTH)
            return test()

        return self.bench.run(process)

    def deliver(self, queue: int = 0) -> int:
        """A frame comes to a buffer and its completion to software."""
        buffer_id = self.device.pop()
        self.device.deliver(buffer_id, queue)
        return buffer_id


def test_buffers_join_with_address_and_length() -> None:
    kit = Kit()

    def test() -> None:
        assert kit.device.table == {at: (4096 * at, LENGTH) for at in range(8)}
        counts = kit.pool.counts()
        assert (counts.state, counts.free, counts.joined, counts.outstanding) == (PoolState.ENABLED, 8, 8, 0)
        assert kit.bench.nic.pools[0].state is PoolState.DISABLED, "the other pool is left alone"

    kit.run(test)


@pytest.mark.parametrize(("lifo", "first"), [(False, 0), (True, 7)])
def test_the_order_of_the_pool(lifo: bool, first: int) -> None:
    kit = Kit()

    def test() -> None:
        kit.pool.enable(lifo=lifo)
        for buffer_id in range(8):
            kit.pool.join(buffer_id, 0, LENGTH)
        assert kit.pool.take() == first

    kit.run(test, enable=False)


def test_ids_go_back_in_fours_and_the_rest_by_flush() -> None:
    kit = Kit()

    def test() -> None:
        out = [kit.deliver() for _ in range(7)]
        for buffer_id in out[:3]:
            kit.pool.give_back(buffer_id)
        kit.bench.core.sync()
        assert kit.device.return_writes == []
        for buffer_id in out[3:]:
            kit.pool.give_back(buffer_id)
        kit.pool.flush()
        kit.pool.flush()
        assert kit.pool.counts().free == 8
        assert kit.device.return_writes == [out[:4], out[4:]]
        assert (kit.pool.returned, kit.pool.return_writes) == (7, 2)

    kit.run(test)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_batch_costs_an_operation_for_each_id_and_one_write(count: int) -> None:
    kit = Kit()

    def test() -> None:
        out = [kit.deliver() for _ in range(count)]
        operations = [kit.bench.core.op(name) for name in ("recycle.batch", "recycle.return", "mmio.write")]
        before = [operation.count for operation in operations]
        for buffer_id in out:
            kit.pool.give_back(buffer_id)
        kit.pool.flush()
        spent = [operation.count - at for operation, at in zip(operations, before, strict=True)]
        assert spent == [count, 1, 0]

    kit.run(test)


def test_buffers_are_taken_until_none_is_left_and_removed() -> None:
    kit = Kit()

    def test() -> None:
        assert [kit.pool.take() for _ in range(3)] == [0, 1, None]
        assert kit.pool.query(0).state is BufferState.OUT
        assert kit.pool.query(0).queue == TAKEN
        kit.pool.remove(0)
        assert kit.pool.query(0).state is BufferState.NONE
        assert kit.pool.counts().joined == 1
        assert kit.pool.misuse() is None, "an empty pool is no misuse"

    kit.run(test, buffers=2)


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        (lambda pool: pool.join(3, 0, LENGTH), RecycleError.JOINED, "refused buffer 3 to join: .* joined already"),
        (lambda pool: pool.join(9, 0, 0), RecycleError.LENGTH, "refused buffer 9 to join: it has no bytes"),
        (lambda pool: pool.join(IDS, 0, 1), RecycleError.RANGE, "refused buffer 16 to join: no buffer can have"),
        (lambda pool: pool.remove(3), RecycleError.NOT_OUT, "refused buffer 3 to be removed: the NIC has it"),
        (lambda pool: pool.remove(9), RecycleError.UNKNOWN, "refused buffer 9 to be removed: no buffer of that id"),
        (lambda pool: pool.query(IDS), RecycleError.RANGE, "refused buffer 16 to be looked at"),
    ],
)
def test_a_refused_command_says_why(command: Callable[[HardwarePool], Any], error: Any, message: str) -> None:
    kit = Kit()

    def test() -> None:
        with pytest.raises(PoolError, match=f"Pool 1 {message}") as refusal:
            command(kit.pool)
        assert refusal.value.error is error
        misuse = kit.pool.misuse()
        assert misuse is not None
        assert (misuse.error, misuse.source) == (error, RecycleSource.COMMAND)

    kit.run(test)


def test_a_command_to_a_pool_that_is_not_enabled() -> None:
    kit = Kit()
    with pytest.raises(PoolError, match="a buffer to be taken: the pool is not enabled"):
        kit.run(kit.pool.take, enable=False)


@pytest.mark.parametrize(
    ("back", "error", "text"),
    [
        (7, RecycleError.NOT_OUT, "Pool 1 refused buffer 7 from a return register: the NIC has it: it was handed back"),
        (IDS, RecycleError.RANGE, "Pool 1 refused buffer 16 from a return register: no buffer can have that id"),
        (9, RecycleError.UNKNOWN, "Pool 1 refused buffer 9 from a return register: no buffer of that id has joined"),
    ],
)
def test_misuse_is_reported_once_until_it_is_acknowledged(back: int, error: Any, text: str) -> None:
    kit = Kit()

    def test() -> None:
        assert kit.pool.misuse() is None
        for buffer_id in (back, 6):
            kit.pool.give_back(buffer_id)
        kit.pool.flush()
        expected = MisuseReport(1, error, RecycleSource.RETURN, back, TAKEN, 2)
        assert kit.pool.misuse() == expected
        assert str(expected).startswith(text)
        assert str(expected).endswith("(2 refused in all)")
        kit.pool.acknowledge_misuse()
        assert kit.pool.misuse() is None

    kit.run(test)


def test_misuse_of_a_queue_names_it() -> None:
    text = str(MisuseReport(0, RecycleError.SEGMENT, RecycleSource.TRANSMIT, 5, 3, 1))
    assert text.startswith("Pool 0 refused buffer 5 from a TX descriptor of queue 3: a TCP segmentation request")


def test_overdue_buffers_are_listed_with_who_has_them() -> None:
    kit = Kit()

    def test() -> None:
        kit.pool.set_overdue_bound(20)
        assert kit.pool.overdue() == []
        late = [kit.deliver(queue) for queue in range(3)]
        kit.bench.core.sleep_until(kit.bench.core.time + 30 * 1024 * 6_400)
        kit.deliver()
        found = kit.pool.overdue()
        assert [(report.id, report.state, report.queue) for report in found] == [
            (buffer_id, BufferState.OUT, queue) for queue, buffer_id in enumerate(late)
        ]
        assert all(report.age >= 30 for report in found)

    kit.run(test)


def test_a_report_of_a_buffer_in_words() -> None:
    assert str(BufferReport(4, BufferState.NIC, 0, 0)) == "buffer 4: with the NIC"
    assert str(BufferReport(4, BufferState.NONE, 0, 0)) == "buffer 4: no buffer of the pool"
    assert str(BufferReport(4, BufferState.OUT, 2, 3)) == "buffer 4: out by queue 2 for 3072 cycles"
    assert str(BufferReport(4, BufferState.OUT, TAKEN, 0)) == "buffer 4: taken by software for 0 cycles"


def test_the_feedback_loop_is_set_closed_and_opened() -> None:
    kit = Kit()
    registers = kit.bench.nic.map.pool

    def values(name: str) -> dict[str, int]:
        kit.bench.core.sync()
        return {field: registers[name].get(kit.device.values[name], field) for field in registers[name].fields}

    def test() -> None:
        kit.pool.set_limit(100)
        assert values("limit") == {"limit": 100, "resume": 75}
        kit.pool.set_limit(6, 2)
        assert values("limit") == {"limit": 6, "resume": 2}
        assert kit.pool.counts().limit == 6
        kit.pool.track(window=12, slack=9)
        assert values("loop") == {"track": 1, "close": 0, "open": 0, "window": 12, "slack": 9}
        kit.pool.close_loop()
        assert values("loop") == {"track": 1, "close": 1, "open": 0, "window": 12, "slack": 9}
        kit.pool.open_loop()
        assert values("loop") == {"track": 1, "close": 0, "open": 1, "window": 12, "slack": 9}
        kit.pool.stop_tracking()
        assert values("loop") == {"track": 0, "close": 0, "open": 0, "window": 12, "slack": 9}

    kit.run(test)


def test_low_water_interrupts_once() -> None:
    kit = Kit()
    heard: list[int] = []

    def test() -> None:
        kit.bench.core.request_irq(40, lambda: heard.append(len(kit.device.free)))
        kit.pool.arm_low_water(6, 40)
        kit.bench.core.sync()
        for _ in range(4):
            kit.bench.platform.at(kit.bench.platform.now, lambda: kit.deliver())
        kit.bench.core.sleep_until(kit.bench.core.time + 10**7)

    kit.run(test)
    assert len(heard) == 1
    assert heard[0] < 6


def test_it_drains_when_nothing_is_out() -> None:
    kit = Kit()

    def test() -> None:
        out = kit.deliver()
        kit.pool.give_back(out)
        kit.pool.disable()
        assert kit.device.state is PoolState.DISABLED
        kit.pool.enable()
        assert kit.pool.counts().joined == 0

    kit.run(test)


def test_a_pool_that_does_not_drain_says_what_it_waits_for() -> None:
    kit = Kit()

    def test() -> None:
        kit.deliver()
        kit.pool.disable()

    message = "Waited 10 ms for state DISABLED of pool 1: it is DRAINING, 1 buffers are outstanding, 0 .*, 7 of 8 free"
    with pytest.raises(DeviceError, match=message):
        kit.run(test)


def test_a_command_that_does_not_end() -> None:
    kit = Kit()

    def test() -> None:
        kit.device.stuck = True
        kit.pool.query(1)

    with pytest.raises(DeviceError, match="Waited 10 ms for command QUERY of pool 1"):
        kit.run(test)


def test_bad_parameters() -> None:
    kit = Kit()
    with pytest.raises(ValueError, match=r"A pool has 1\.\.65536 ids, not 0"):
        HardwarePool(kit.bench.core, kit.bench.nic.map, 0, 0)
    with pytest.raises(ValueError, match=r"Pool must be in 0\.\.1, not 2"):
        HardwarePool(kit.bench.core, kit.bench.nic.map, 2, IDS)
