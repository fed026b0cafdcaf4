# SPDX-License-Identifier: BSD-2-Clause
"""A NIC without hardware: rings, doorbells, arming and interrupts as ``hw/abi`` says, in plain Python."""

from collections import deque
from collections.abc import Callable
from struct import Struct

from hw.abi.codec import Codec
from hw.abi.pools import RecycleError, RecycleSource
from hw.abi.registers import MAX_FRAME, register_map
from hw.abi.rings import CompletionError, QueueError, QueueState, RxCompletion, TxContext, TxDescriptorType
from tests.driver_model.fake_platform import FakePlatform
from tests.driver_model.fake_pools import FakePool

_MASK = 0xFFFF
_ENTRY = Struct("<QHHI")
_RX = Struct("<HHIHHBBBB")
_TX = Struct("<HH10xBB")
_CONTEXT = Codec(TxContext)
_RECYCLE = 4  #: bit of TxDataFlags
_END_OF_PACKET, _REPORT = 1, 2  #: bits of TxDataFlags
_HEADER_SPLIT = Codec(RxCompletion).mask("flags", "header_split")
DMA_LATENCY_PS = 300_000
MAX_DESCRIPTORS = 5  #: the logarithm of what a frame to be sent may have
BATCH = 256  #: accesses that are judged at once


class FakeQueue:
    """Device side of a queue pair."""

    def __init__(self) -> None:
        self.registers: dict[str, int] = {}
        self.rx = self.tx = QueueState.DISABLED
        self.faults = {"rx": QueueError.NONE, "tx": QueueError.NONE}
        self.clear_rx()
        self.clear_tx()
        self.armed: tuple[int, int] | None = None
        self.waiting: deque[bytes] = deque()
        self.sent: list[bytes] = []
        self.asked: list[tuple[object, int]] = []  #: of each frame sent, its context or None, and its control word
        self.dropped = 0
        self.tx_error = CompletionError.NONE  #: of every frame while set: counted, and reported where asked for

    def clear_rx(self) -> None:
        """Indices as after enabling."""
        self.fill_producer = self.fill_consumer = self.rx_producer = self.rx_consumer = 0

    def clear_tx(self) -> None:
        """Indices as after enabling."""
        self.tx_producer = self.tx_consumer = self.tx_done = self.tx_seen = 0


class FakeNic:
    """The device. Frames are given to :meth:`receive`; what was sent is in :attr:`queues` ``[q].sent``.

    Doorbells and frames take effect ``DMA_LATENCY_PS`` later, all that wait at once. ``accesses`` collects what the
    device touched, as the ownership checker wants it: (cycle, address, length, is_write). Of RSS and steering rules, it
    keeps what it was told: ``port`` has the values of its registers, ``rules`` the rules by their place. ``headers``
    says how many bytes of a frame are headers that can be split off; without it, header split is not built in. With
    ``offloads``, packets are parsed, as they are where anything else needs it, and can be sent with checksums, tags and
    as segments. With ``pools``, buffers recycle in them, of ``pool_buffers`` ids each; a queue holds none in advance.
    """

    def __init__(
        self,
        platform: FakePlatform,
        queues: int = 2,
        *,
        access_log: bool = False,
        rss: bool = False,
        rules: int = 0,
        headers: Callable[[bytes], int] | None = None,
        offloads: bool = False,
        max_frame: int = MAX_FRAME,
        pools: int = 0,
        pool_buffers: int = 64,
    ) -> None:
        self.platform = platform
        self.map = register_map(queues, max_frame, pools)
        self.pool_buffers = pool_buffers
        self.pools: list[FakePool] = []
        self._make_pools()
        self.queues = [FakeQueue() for _ in range(queues)]
        self.accesses: list[tuple[int, int, int, bool]] | None = [] if access_log else None
        self.judge: Callable[[], object] = lambda: None  #: called where many accesses were made, which it may take
        self.control = 0
        self.built = {
            "rss": rss,
            "steering_rules": rules,
            "header_split": headers is not None,
            "classify": offloads or rss or rules > 0 or headers is not None,
            "tx_offload": offloads,
            "segmentation": offloads,
        }
        self.headers = headers
        self.port: dict[str, int] = {}
        self.rules: dict[int, tuple[int, ...]] = {}
        self.stuck = False  #: never report a queue as stopped, nor a reset as done
        self.magic = self.map.port["id"].reset
        self.bad_doorbells = 0
        self._due = False
        self._port_names = {register.offset: name for name, register in self.map.port.items()}
        self._queue = {register.offset: name for name, register in self.map.queue.items()}
        self._pool = {register.offset: name for name, register in self.map.pool.items()}
        platform.on_write = self._write
        platform.on_read = self._read

    # Registers

    def _locate(self, offset: int) -> tuple[int, str]:
        if offset < self.map.queue_base:
            return -1, self._port_names[offset]
        page, inside = divmod(offset - self.map.queue_base, self.map.queue_stride)
        return page, (self._queue if page < len(self.queues) else self._pool)[inside]

    def _make_pools(self) -> None:
        platform = self.platform
        self.pools = [
            FakePool(self.map, at, self.pool_buffers, lambda: platform.now, platform.interrupt)
            for at in range(self.map.pools)
        ]

    def _write(self, offset: int, value: int) -> None:
        index, name = self._locate(offset)
        if index < 0:
            if name == "control":
                self.control = value & 3
                if value & self.map.port["control"].pack(reset=1):
                    self.queues = [FakeQueue() for _ in self.queues]
                    self._make_pools()
                    self.port.clear()
                    self.rules.clear()
            elif name == "rule_command":
                self._rule(value)
            else:
                self.port[name] = value
            return
        if index >= len(self.queues):
            self.pools[index - len(self.queues)].write(name, value)
            self._schedule()
            return
        queue = self.queues[index]
        if name == "rx_doorbell":
            queue.fill_producer, queue.rx_consumer = value & _MASK, value >> 16 & _MASK
            if queue.rx is not QueueState.ENABLED:
                self.bad_doorbells += 1
        elif name == "tx_doorbell":
            queue.tx_producer, queue.tx_seen = value & _MASK, value >> 16 & _MASK
            if queue.tx is not QueueState.ENABLED:
                self.bad_doorbells += 1
        elif name == "arm":
            queue.armed = (value & _MASK, value >> 16 & _MASK)
        elif name == "rx_control":
            queue.rx = QueueState.ENABLED if value else QueueState.DISABLED
            if value:
                queue.faults["rx"] = QueueError.NONE
                queue.clear_rx()
        elif name == "tx_control":
            queue.tx = QueueState.ENABLED if value else QueueState.DISABLED
            if value:
                queue.faults["tx"] = QueueError.NONE
                queue.clear_tx()
        else:
            queue.registers[name] = value
        self._schedule()

    def _rule(self, value: int) -> None:
        command = self.map.port["rule_command"]
        index = command.get(value, "index")
        if command.get(value, "insert"):
            names = ("rule_source0", "rule_source1", "rule_destination0", "rule_destination1", "rule_flow")
            self.rules[index] = tuple(self.port[name] for name in names)
        else:
            del self.rules[index]

    def _read(self, offset: int) -> tuple[int, bool]:
        index, name = self._locate(offset)
        if index < 0:
            registers = self.map.port
            values = {
                "id": registers["id"].reset & ~0xFFFFFFFF | self.magic & 0xFFFFFFFF,
                "capabilities": registers["capabilities"].pack(
                    queues=len(self.queues), beat_bytes=8, max_descriptors=MAX_DESCRIPTORS, **self.built
                ),
                "status": registers["status"].pack(carrier=1, resetting=self.stuck),
                "pool_capabilities": registers["pool_capabilities"].pack(
                    pools=len(self.pools), id_bits=(self.pool_buffers - 1).bit_length() if self.pools else 0
                ),
                "frame_limits": self.port.get("frame_limits", registers["frame_limits"].reset),
            }
            return values.get(name, 0), False
        if index >= len(self.queues):
            return self.pools[index - len(self.queues)].read(name), False
        if name in ("rx_status", "tx_status"):
            queue = self.queues[index]
            state = queue.rx if name == "rx_status" else queue.tx
            error = queue.faults[name[:2]].value
            register = self.map.queue[name]
            stopped = state is not QueueState.ENABLED and not self.stuck
            return register.pack(state=state.value, stopped=stopped, error=error), False
        return self.queues[index].registers.get(name, 0), False

    def fail(self, index: int, direction: str, error: QueueError) -> None:
        """A direction goes to state ERROR now."""
        queue = self.queues[index]
        setattr(queue, direction, QueueState.ERROR)
        queue.faults[direction] = error
        self._schedule()

    # The wire

    def receive(self, index: int, frames: list[bytes]) -> None:
        """Frames arrive for a queue now."""
        self.queues[index].waiting.extend(frames)
        self._schedule()

    def _schedule(self) -> None:
        if not self._due:
            self._due = True
            self.platform.at(self.platform.now + DMA_LATENCY_PS, self._run)

    def _run(self) -> None:
        self._due = False
        if self.accesses is not None and len(self.accesses) >= BATCH:
            self.judge()
        for queue in self.queues:
            if queue.rx is QueueState.ENABLED and self.control & 1:
                self._receive(queue)
            if queue.tx is QueueState.ENABLED and self.control & 2:
                self._send(queue)
            failed = QueueState.ERROR in (queue.rx, queue.tx)
            if queue.armed is not None and (failed or queue.armed != (queue.rx_producer, queue.tx_done)):
                queue.armed = None
                vector = self.map.queue["moderation"].get(queue.registers["moderation"], "vector")
                self.platform.interrupt(vector)

    def _receive(self, queue: FakeQueue) -> None:
        """Fill buffers while there are any; frames that find none wait (a fake wire has patience)."""
        setup = queue.registers
        pool = self.map.queue["rx_pool"]
        if pool.get(setup.get("rx_pool", 0), "enable"):
            self._receive_pooled(queue, self.pools[pool.get(setup["rx_pool"], "pool")])
            return
        base, size = setup["rx_fill_base"], setup["rx_fill_size"]
        while queue.waiting:
            frame = queue.waiting[0]
            posted = (queue.fill_producer - queue.fill_consumer) & _MASK
            taken: list[tuple[int, int, bytes]] = []
            header = self._header(queue, frame)
            rest = frame[len(header) :]
            while rest and len(taken) < posted:
                slot = (queue.fill_consumer + len(taken)) % size
                address, length, buffer_id, _ = _ENTRY.unpack(self.read(base + 16 * slot, 16))
                taken.append((address, buffer_id, rest[:length]))
                rest = rest[length:]
            if rest:
                return
            queue.waiting.popleft()
            queue.fill_consumer = (queue.fill_consumer + len(taken)) & _MASK
            told = (0, 0, 0, len(header), 0)
            for number, (address, buffer_id, piece) in enumerate(taken, 1):
                flags = _HEADER_SPLIT if header and number == 1 else 0
                self.write(address, piece)
                self.complete(queue, buffer_id, len(piece), end=number == len(taken), told=told, flags=flags)

    def _receive_pooled(self, queue: FakeQueue, pool: FakePool) -> None:
        """As :meth:`_receive` with buffers of a pool; frames that the loop refuses are dropped."""
        size = queue.registers["rx_completion_size"]
        while queue.waiting:
            frame = queue.waiting[0]
            header = self._header(queue, frame)
            length = next(iter(pool.table.values()), (0, 1))[1]
            pieces = [frame[at : at + length] for at in range(len(header), len(frame), length)]
            if not pool.admits(len(pieces)):
                queue.waiting.popleft()
                pool.drops += 1
                continue
            room = size - ((queue.rx_producer - queue.rx_consumer) & _MASK)
            if len(pieces) > min(len(pool.free), room):
                return
            queue.waiting.popleft()
            told = (0, 0, 0, len(header), 0)
            for number, piece in enumerate(pieces, 1):
                buffer_id = pool.pop()
                self.write(pool.table[buffer_id][0], piece)
                flags = _HEADER_SPLIT if header and number == 1 else 0
                pool.deliver(buffer_id, self.queues.index(queue))
                self.complete(queue, buffer_id, len(piece), end=number == len(pieces), told=told, flags=flags)

    def _header(self, queue: FakeQueue, frame: bytes) -> bytes:
        """The headers of the queue's next frame, which are written to their buffer, if they can be split off."""
        register = self.map.queue["rx_header"]
        word = queue.registers.get("rx_header", 0)
        if self.headers is None or not register.get(word, "enable"):
            return b""
        size, header = 64 << register.get(word, "size"), frame[: self.headers(frame)]
        if not len(header) <= size or len(header) == len(frame):
            return b""
        slot = queue.rx_producer % queue.registers["rx_completion_size"]
        if header:
            self.write((register.get(word, "address") << 6) + slot * size, header)
        return header

    def complete(
        self,
        queue: FakeQueue,
        buffer_id: int,
        length: int,
        *,
        end: bool = True,
        error: CompletionError = CompletionError.NONE,
        told: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0),
        hash_ports: bool = False,
        flags: int = 0,
    ) -> None:
        """Write an RX completion; ``told`` are hash, checksum, VLAN, header length and packet type."""
        size = queue.registers["rx_completion_size"]
        index = queue.rx_producer
        phase = 0 if index // size & 1 else 0x80
        raw = _RX.pack(buffer_id, length, *told, error.value | hash_ports << 4, phase | end | flags)
        self.write(queue.registers["rx_completion_base"] + 16 * (index % size), raw)
        queue.rx_producer = (index + 1) & _MASK

    def _send(self, queue: FakeQueue) -> None:
        setup = queue.registers
        base, size = setup["tx_ring_base"], setup["tx_ring_size"]
        frame = b""
        context: object = None
        while queue.tx_consumer != queue.tx_producer:
            entry = self.read(base + 16 * (queue.tx_consumer % size), 16)
            address, length, buffer_id, control = _ENTRY.unpack(entry)
            if control & 15 == TxDescriptorType.CONTEXT.value:
                context = _CONTEXT.unpack(entry)
                queue.tx_consumer = (queue.tx_consumer + 1) & _MASK
                continue
            if control & 15 != TxDescriptorType.DATA.value:
                raise AssertionError(f"TX descriptor of type {control & 15}")
            frame += self.read(address, length)
            if control >> 24 & _RECYCLE:
                self._recycle(queue, control >> 18 & 15, buffer_id)
            queue.tx_consumer = (queue.tx_consumer + 1) & _MASK
            flags = control >> 24
            if flags & _END_OF_PACKET:
                if queue.tx_error is CompletionError.NONE:
                    queue.sent.append(frame)
                    queue.asked.append((context, control))
                else:
                    refused = f"counters.tx_{queue.tx_error.name.lower()}"
                    setup[refused] = setup.get(refused, 0) + 1
                frame, context = b"", None
            if flags & _REPORT:
                entries = setup["tx_completion_size"]
                phase = 0 if queue.tx_done // entries & 1 else 0x80
                raw = _TX.pack(buffer_id, queue.tx_consumer, queue.tx_error.value, phase)
                self.write(setup["tx_completion_base"] + 16 * (queue.tx_done % entries), raw)
                queue.tx_done = (queue.tx_done + 1) & _MASK

    def _recycle(self, queue: FakeQueue, number: int, buffer_id: int) -> None:
        """A descriptor's bytes were read, and it hands its buffer back."""
        index = self.queues.index(queue)
        allowed = queue.registers.get("tx_pools", 0) >> number & 1
        pool = self.pools[number if allowed else 0]
        if pool.claim(buffer_id, RecycleSource.TRANSMIT, index, RecycleError.NONE if allowed else RecycleError.POOL):
            pool.sent(buffer_id)
            self._schedule()

    # Memory

    def read(self, address: int, length: int) -> bytes:
        """The device reads memory now."""
        if self.accesses is not None:
            self.accesses.append((self.platform.now // self.platform.cycle_ps, address, length, False))
        return self.platform.read(address, length)

    def write(self, address: int, data: bytes) -> None:
        """The device writes memory now."""
        if self.accesses is not None:
            self.accesses.append((self.platform.now // self.platform.cycle_ps, address, len(data), True))
        self.platform.device_write(address, data)
