# SPDX-License-Identifier: BSD-2-Clause
"""The driver of the Pagewheel NIC: finding it, starting and stopping its queues, its counters."""

import errno
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from driver_model.cpu.core import ALL_ONES, Core
from driver_model.drivers.device import POLL_STEP_PS, RESET_TIMEOUT_PS, DeviceError, DeviceGoneError
from driver_model.drivers.ethtool import Ethtool
from driver_model.drivers.fault import QueueFault
from driver_model.drivers.features import Capabilities, NetDevice
from driver_model.drivers.hardware_pool import HardwarePool
from driver_model.drivers.host import Host
from driver_model.drivers.queue import QueuePair
from driver_model.drivers.queue_config import QueueConfig
from driver_model.drivers.strategies.base import PooledStrategy
from hw.abi.registers import Register, RegisterMap, register_map
from hw.abi.rings import QueueError, QueueState

MAP_VERSION = 1
STOP_TIMEOUT_PS = 10**10
OPEN_TIMEOUT_PS = 10**12
UNSENT = ("tx_read_fault", "tx_frame_length", "tx_offload")  #: a queue's counters of frames that it refused to send


class QueueStatus(NamedTuple):
    """RX_STATUS or TX_STATUS."""

    state: QueueState
    stopped: bool
    error: QueueError


class NicDriver:
    """One NIC on a host. Every method that talks to the device must be called in a process on the host's first core.

    Queue pair *q* belongs to core *q* modulo the number of cores: its memory, its interrupt (vector *q*), its NAPI. It
    is opened and closed by a process there. With a strategy that needs one, its buffers are in the device's pool *q*,
    whose low-water interrupt has the vector *q* behind those of the device's queues.

    Parameters
    ----------
    host : the kernel
    config : how each queue pair is set up
    queues : queue pairs to use; all by default

    Attributes
    ----------
    netdev, ethtool : the device's features, and its settings; none before :meth:`probe`. RSS, where it is built in,
        spreads packets evenly over the queue pairs in use
    queues : the queue pairs, from :meth:`open` on; kept after :meth:`stop` for their statistics
    faults : directions that the device stopped because of an error, in the order in which the driver learned of them;
        the other queues go on, and the stopped ones start again by :meth:`stop` and :meth:`open`
    """

    def __init__(self, host: Host, config: QueueConfig, queues: int | None = None) -> None:
        if queues is not None and (not isinstance(queues, int) or isinstance(queues, bool)):
            raise TypeError(f"queues must be an integer or None, not {queues!r}")
        if queues is not None and queues < 1:
            raise ValueError(f"queues must be 1 or more, not {queues!r}")
        self.host = host
        self.config = config
        self.core: Core = host.cores[0]
        self.queues: list[QueuePair] = []
        self.faults: list[QueueFault] = []
        self.registers: RegisterMap = register_map(1)
        self._describe(Capabilities(queues=1, max_frame=0), 1)
        self._wanted = queues
        self._control = 0
        self._opened = False
        self._vectors: set[int] = set()

    # Port

    def probe(self) -> None:
        """Find the device, reset it, and read what it can do. Raises :class:`DeviceError`."""
        register = self.registers.port["id"]
        word = self._read("id")
        magic, version = register.get(word, "magic"), register.get(word, "version")
        if magic != register.fields["magic"].reset or version != MAP_VERSION:
            raise DeviceError(
                f"No Pagewheel NIC of register map version {MAP_VERSION}: its ID register reads {word:#x}"
            )
        built = self._read("capabilities")
        available = self.registers.port["capabilities"].get(built, "queues")
        wanted = available if self._wanted is None else self._wanted
        if not 1 <= wanted <= available:
            raise DeviceError(f"The device has {available} queue pairs, not {wanted}")
        pools = self._read("pool_capabilities")
        found = self.registers.port["pool_capabilities"].get(pools, "pools")
        self.registers = register_map(available, pools=found)
        self._wanted = wanted
        self.reset()
        self._describe(Capabilities.decode(self.registers, built, self._read("frame_limits"), pools), wanted)

    def reset(self) -> None:
        """Function reset, in traffic or not; waits until it is done.

        An open device is closed by it: what was received before is handled, what was still to be sent is given up, all
        memory comes back. So it does where the device is gone, which touches nothing any more: then raises
        :class:`DeviceGoneError`.
        """
        if self._opened:
            for queue in self._open_queues:
                self._on(queue.core, f"quiesce queue {queue.index}", queue.quiesce)
        self._control = 0
        self.core.mmio_write(self.registers.address("control"), self.registers.port["control"].pack(reset=1))
        gone: DeviceGoneError | None = None
        try:
            self._wait_clear("status", "resetting", "the function reset to end")
        except DeviceGoneError as error:
            gone = error
        self.ethtool.forget()
        if self._opened:
            for queue in self._open_queues:
                self._on(queue.core, f"close queue {queue.index}", partial(self._close, queue))
            self._opened = self.netdev.running = False
        if gone is not None:
            raise gone

    def open(self) -> None:
        """Start all queue pairs, then reception and transmission.

        Raises ``OSError`` ENOMEM where there is no memory for all of them, and :class:`DeviceError` where the device
        does not answer or refuses: those that had started are stopped again, and nothing is left. If one of them does
        not stop, that :class:`DeviceError` comes instead, and the device counts as open: :meth:`reset` brings
        everything back. Raises ``OSError`` as :meth:`QueueConfig.check` does for a device without pools.
        """
        if self._wanted is None or self.registers.queues < self._wanted:
            raise DeviceError("The device must be probed before it is opened")
        if self._opened:
            raise DeviceError("The device is open already")
        capabilities = self.netdev.capabilities
        self.config.check(self._wanted, capabilities.pools, capabilities.pool_buffers, capabilities.pool_ahead)
        self.ethtool.restore()
        timeouts = self.registers.port["timeouts"]
        word = timeouts.pack(starvation=timeouts.fields["starvation"].reset, completion=self.config.completion_cycles)
        if word != timeouts.reset:
            self.core.mmio_write(timeouts.offset, word)
        self.queues = []
        self._opened = True
        try:
            for index in range(self._wanted):
                core = self.host.cores[index % len(self.host.cores)]
                self._on(core, f"open queue {index}", partial(self._start, index))
        except MemoryError as error:
            self._stop_all()
            raise OSError(errno.ENOMEM, str(error)) from error
        except DeviceError:
            self._stop_all()
            raise
        self.netdev.running = True
        self._enable(rx=True, tx=True)

    def stop(self) -> None:
        """Stop reception, let every queue finish what it received and has to send, then stop it and free its memory.

        Raises :class:`DeviceError` if the device does not stop; :meth:`reset` brings everything back then.
        """
        if not self._opened:
            raise DeviceError("The device is not open")
        self._enable(rx=False, tx=True)
        self._stop_all()
        self._enable(rx=False, tx=False)

    def stop_queue(self, index: int) -> None:
        """Stop one queue pair as :meth:`stop` does, in traffic or not: the others go on, and the device counts frames
        for it in ``drop_queue_disabled``. It stays closed until the device is opened anew.

        Raises :class:`DeviceError` if the queue pair is not open, or does not stop.
        """
        queue = next((queue for queue in self._open_queues if queue.index == index), None)
        if queue is None:
            raise DeviceError(f"Queue pair {index!r} is not open")
        self._on(queue.core, f"stop queue {index}", partial(self._stop, queue))

    def status(self, queue: int, direction: str) -> QueueStatus:
        """State of one direction, ``rx`` or ``tx``, of a queue pair."""
        return self._status(self.core, queue, direction)

    def counters(self) -> dict[str, int]:
        """The device's counters, all as of one moment: ``rx_frames``…, and of each queue pair
        ``nic_queue0_rx_packets``… (the driver's own are ``queue0_rx_packets``…).

        ``tx_errors`` sums up what the queues refused to send. A refusal is reported to the driver only where a frame's
        completion was asked for, so its own counters have the others among ``tx_packets``."""
        control = self.registers.port["control"]
        self.core.mmio_write(self.registers.address("control"), self._control | control.pack(snapshot=1))
        self._wait_clear("status", "snapshot_busy", "the counters' snapshot")
        values = {
            name.replace(".", "_"): self.core.mmio_read(register.offset)
            for name, register in self.registers.port.items()
            if name.startswith(("rx.", "tx."))
        }
        for queue in range(self.registers.queues):
            for name in self.registers.queue:
                if name.startswith("counters."):
                    short = name.removeprefix("counters.")
                    values[f"nic_queue{queue}_{short}"] = self.core.mmio_read(self.registers.address(name, queue))
        values["tx_errors"] = sum(
            values[f"nic_queue{queue}_{name}"] for queue in range(self.registers.queues) for name in UNSENT
        )
        return values

    def ethtool_statistics(self) -> dict[str, int]:
        """The driver's own counters: each queue's with its number, and the strategies' summed over the queues."""
        values: dict[str, int] = {}
        for queue in self.queues:
            values |= queue.statistics.ethtool(queue.index)
        for queue in self.queues:
            for name, value in queue.strategy.statistics().items():
                values[name] = values.get(name, 0) + value
        return values

    @property
    def warnings(self) -> list[str]:
        """What went wrong with hardware pools, in words; complete when the device was stopped or reset."""
        strategies = [queue.strategy for queue in self.queues]
        return [text for each in strategies if isinstance(each, PooledStrategy) for text in each.warnings]

    @property
    def in_flight(self) -> int:
        """Pages that the queues' strategies hold or lent out."""
        return sum(queue.strategy.in_flight for queue in self.queues)

    @property
    def _open_queues(self) -> list[QueuePair]:
        return [queue for queue in self.queues if self._opened and not queue.closed]

    # Queues, on their own core

    def _start(self, index: int) -> None:
        host, registers = self.host, self.registers
        at = index % len(host.cores)
        queue = QueuePair(index, host.devices[at], host.softnets[at], registers, self.netdev, self.config, self._check)
        self.queues.append(queue)
        core = queue.core
        setup = {
            "rx_fill_base": queue.rx.supply.ring.memory.dma_address,
            "rx_fill_size": queue.rx.supply.ring.entries,
            "rx_completion_base": queue.rx.completions.memory.dma_address,
            "rx_completion_size": queue.rx.completions.entries,
            "tx_ring_base": queue.tx.ring.memory.dma_address,
            "tx_ring_size": queue.tx.entries,
            "tx_completion_base": queue.tx.completions.memory.dma_address,
            "tx_completion_size": queue.tx.completions.entries,
            "moderation": registers.queue["moderation"].pack(
                cycles=self.config.moderation_cycles, count=self.config.moderation_count, vector=index
            ),
        }
        capabilities = self.netdev.capabilities
        if capabilities.pools:
            pooled = isinstance(queue.strategy, PooledStrategy)
            setup["rx_pool"] = registers.queue["rx_pool"].pack(enable=pooled, pool=index if pooled else 0)
            setup["tx_pools"] = registers.queue["tx_pools"].pack(pools=1 << index if pooled else 0)
        if isinstance(queue.strategy, PooledStrategy):
            pool = HardwarePool(core, registers, index, capabilities.pool_buffers)
            vector = registers.queues + index
            self._request(core, vector, partial(self._low_water, index))
            queue.strategy.attach(pool, self.config.pool_buffers(pool.ids), self.config.pool_max, vector)
        if capabilities.header_split:
            setup["rx_header"] = 0 if queue.rx.headers is None else queue.rx.headers.word(registers.queue["rx_header"])
        setup |= {"rx_control": 1, "tx_control": 1}
        for name, value in setup.items():
            core.mmio_write(registers.address(name, index), value)
        self._request(core, index, partial(self._interrupt, index))
        queue.open()

    def _request(self, core: Core, vector: int, handler: Callable[[], None]) -> None:
        """Once for each vector: a handler outlives its queue."""
        if vector not in self._vectors:
            self._vectors.add(vector)
            core.request_irq(vector, handler)

    def _interrupt(self, index: int) -> None:
        """Handler of a vector. A message may come late, when its queue pair is closed: it arms when it opens."""
        if index < len(self.queues):
            self.queues[index].interrupt()

    def _low_water(self, index: int) -> None:
        """Handler of a pool's vector; its message may come late, too."""
        strategy = self.queues[index].strategy if index < len(self.queues) else None
        if isinstance(strategy, PooledStrategy):
            strategy.low_water()

    def _stop_all(self) -> None:
        for queue in self._open_queues:
            self._on(queue.core, f"stop queue {queue.index}", partial(self._stop, queue))
        self._opened = self.netdev.running = False

    def _stop(self, queue: QueuePair) -> None:
        core, index = queue.core, queue.index
        queue.receiving = False
        core.mmio_write(self.registers.address("rx_control", index), 0)
        self._wait_stopped(queue, "rx")
        sends = self._status(core, index, "tx").state is QueueState.ENABLED
        queue.finish(core.time + STOP_TIMEOUT_PS, sends)
        queue.tx.running = False
        core.mmio_write(self.registers.address("tx_control", index), 0)
        self._wait_stopped(queue, "tx")
        queue.close()

    def _close(self, queue: QueuePair) -> None:
        queue.finish(queue.core.time + STOP_TIMEOUT_PS, sends=False)
        queue.close()

    def _check(self, queue: QueuePair) -> None:
        """Leave the error state of a direction that the device stopped; the other one goes on. None does where the
        device is gone."""
        core, index = queue.core, queue.index
        for direction in ("rx", "tx"):
            try:
                status = self._status(core, index, direction)
            except DeviceGoneError:
                queue.stopped(direction)
                continue
            if status.state is QueueState.ERROR:
                self._note(queue, direction, status.error)
                core.mmio_write(self.registers.address(f"{direction}_control", index), 0)

    def _note(self, queue: QueuePair, direction: str, error: QueueError) -> None:
        core = queue.core
        fault = QueueFault(core.time, queue.index, direction, error)
        self.faults.append(fault)
        queue.stopped(direction)
        if core.log is not None:
            core.log.record(core.time, core.index, core.context, "fault", str(fault))

    def _wait_stopped(self, queue: QueuePair, direction: str) -> None:
        core, index = queue.core, queue.index
        deadline = core.time + STOP_TIMEOUT_PS
        while not (status := self._status(core, index, direction)).stopped:
            if core.time >= deadline:
                raise DeviceError(
                    f"Queue {index} {direction} did not stop within {STOP_TIMEOUT_PS // 10**9} ms: {status.state.name}"
                )
            core.sleep_until(core.time + POLL_STEP_PS)
        if status.error is not QueueError.NONE and not getattr(queue.statistics, f"{direction}_stopped"):
            self._note(queue, direction, status.error)

    def _status(self, core: Core, queue: int, direction: str) -> QueueStatus:
        if direction not in ("rx", "tx"):
            raise ValueError(f"Direction must be rx or tx, not {direction!r}")
        name = f"{direction}_status"
        register: Register = self.registers.queue[name]
        word = core.mmio_read(self.registers.address(name, queue))
        if word == ALL_ONES:
            raise DeviceGoneError
        return QueueStatus(
            QueueState(register.get(word, "state")),
            bool(register.get(word, "stopped")),
            QueueError(register.get(word, "error")),
        )

    # Helpers

    def _describe(self, capabilities: Capabilities, queues: int) -> None:
        self.netdev = NetDevice(capabilities, single_buffer_xdp=self.config.program.single_buffer)
        self.ethtool = Ethtool(self.core, self.registers, self.netdev, queues)

    def _on(self, core: Core, name: str, function: Callable[[], None]) -> None:
        """Run a function in a process of the given core, and wait for it; what it raises comes out here."""
        if core is self.core:
            function()
            return
        failed: list[Exception] = []

        def process() -> None:
            try:
                function()
            except (MemoryError, OSError, DeviceError) as error:
                failed.append(error)

        self.core.sync()
        task = core.spawn(name, process)
        deadline = self.core.time + OPEN_TIMEOUT_PS
        while not task.done:
            if self.core.time >= deadline:
                raise DeviceError(f"Process {name!r} did not end within {OPEN_TIMEOUT_PS // 10**9} ms")
            self.core.sleep_until(self.core.time + POLL_STEP_PS)
        if failed:
            raise failed[0]

    def _enable(self, *, rx: bool, tx: bool) -> None:
        self._control = self.registers.port["control"].pack(rx_enable=rx, tx_enable=tx)
        self.core.mmio_write(self.registers.address("control"), self._control)

    def _read(self, name: str) -> int:
        return self.core.mmio_read(self.registers.address(name))

    def _wait_clear(self, name: str, field: str, what: str) -> None:
        deadline = self.core.time + RESET_TIMEOUT_PS
        while self.registers.port[name].get(word := self._read(name), field):
            if word == ALL_ONES:
                raise DeviceGoneError
            if self.core.time >= deadline:
                raise DeviceError(f"Waited {RESET_TIMEOUT_PS // 10**9} ms for {what}")
            self.core.sleep_until(self.core.time + POLL_STEP_PS)
