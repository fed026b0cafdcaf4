# SPDX-License-Identifier: BSD-2-Clause
"""Recycled buffers whose pages move while they carry translations, on the whole machine: one run for each seed.

Frames are received, and sent again from the pool's buffer in which they came. A page moves in two ways. *Held*:
software keeps a buffer for a while, unmaps its page, and copies the frame to another one. *Wild*: the page of any
buffer is mapped to another one, whatever the device does with it; the frame that was in it may be lost. After the last
fence nobody reaches the old page, and all frames but those lost ones leave byte-exact.
"""

from collections import deque
from functools import partial
from typing import Any

import numpy as np

from hw.abi.iommu import Event
from sim.backends.base import Backend
from sim.config import MachineConfig
from sim.line_rate.frames import FrameError
from sim.line_rate.job import LineRateRun
from sim.line_rate.pools import Forwarder, PoolReceiver
from sim.line_rate.queues import RX_COMPLETION
from sim.line_rate.rings import column
from sim.line_rate.run import CARRIED, FORWARD, LineRun
from sim.load_tables import PAGE
from tests.cosim.moving_mappings import Mappings

BUFFERS = 32
FRAMES = 300
LIMIT = 200_000  #: cycles of a run
POLLS = 1000
EVENTS = (Event.TRANSLATED, Event.FAULT)
FOREVER = 1 << 62


class MovingReceiver(PoolReceiver):
    """Does not look for data, which may be on any page."""

    def poll(self) -> int:
        entries = self._completions.take()
        ids = column(entries, RX_COMPLETION, "buffer_id").astype(np.int64)
        self.received += len(ids)
        self.then(ids)
        return len(ids)


class MovingForwarder(Forwarder):
    """Sends what it is told to."""

    def let_go(self, ids: list[int]) -> None:
        self._keep(np.array(ids, np.int64))


class Moving(LineRateRun):
    """A run of one queue on a machine just after reset.

    A frame may be lost if its buffer's page moved wildly, and the last fence of that came after the buffer was let go
    for the frame before it.
    """

    def __init__(self, backend: Backend, machine: MachineConfig, seed: int):
        self.name = f"seed {seed}"
        self.mappings = mappings = Mappings(backend, seed)
        self.rng = rng = mappings.rng
        super().__init__(
            backend,
            machine,
            LineRun(
                direction=FORWARD,
                recycle=True,
                translation=CARRIED,
                pool=BUFFERS,
                ring=BUFFERS,
                size=rng.choice((64, 64, 200, 1518)),
                headroom=rng.choice((64, 256, 1000)),
                page=PAGE,
                wait=rng.choice((16, 256)),
                stalls=rng.choice((0, 40, 120)),
                seed=seed,
            ),
        )
        self._run.check(machine)
        self.receiver = self._make(partial(MovingReceiver, read=self._read), 0, 0)
        self.sender = self._make(partial(MovingForwarder, receiver=self.receiver), 0, 1, buffers=0)
        self.receiver.then = self._came
        self._receivers, self._senders = [self.receiver], [self.sender]
        self.spacing = max(rng.choice((20, 40, 80)), self._line.frame_cycles(self._run.length))
        self.holds = rng.choice((0.1, 0.4))
        self.pause = rng.choice((50, 200, 800))  # cycles between two moves, on average
        self.held: dict[int, int] = {}  # buffers that software keeps, and until when
        self.moving: dict[int, bytes] = {}  # those whose page is unmapped, and the frame
        #: buffers to be sent, when they were let go before, and the frame's number
        self.order: deque[tuple[int, int, int | None]] = deque()
        self.number: dict[int, int] = {}  # of the frame in each buffer that was received
        self.last = -1
        self._end = 0  # cycle from which on no frame comes
        self.let_go = dict.fromkeys(range(BUFFERS), 0)
        self.wild = dict.fromkeys(range(BUFFERS), -1)  # when the last wild move ended
        self.wild_now: list[int] = []
        self.lost = self.exact = self.moves = self.wild_moves = 0

    def play(self) -> dict[str, Any]:
        """Traffic and moves, then traffic until all is over; what happened."""
        self._set_up(True, True)
        self._begin = self._backend.cycle + 500
        self._end = self._begin + int(FRAMES * self.spacing)
        while self._backend.cycle < self._end or self.held or self.moving or self.wild_now:
            if self._backend.cycle > LIMIT:
                raise FrameError(f"{self.name}: not over after {LIMIT} cycles; {len(self.held)} buffers are held")
            self._step(self._backend.cycle + self.rng.randint(5, 100), True, True)
        self.holds = 0
        dropped = self._settle(200, True, True)
        assert not self.order, f"{self.name}: buffers {self.order} were not sent"
        self._check_pool()
        self.mappings.check()
        translated, faults = self.mappings.counts(self._read)
        assert not faults, f"{self.name}: {faults} accesses were refused"
        return {
            "seed": self._run.seed,
            "cycles": self._backend.cycle,
            "exact": self.exact,
            "lost": self.lost,
            "dropped": sum(dropped.values()),
            "moves": self.moves,
            "wild": self.wild_moves,
            "translated": translated,
        }

    def _translate(self) -> None:
        super()._translate()
        first = self._run.buffers(0, 0).base
        self.mappings.open(self._mailbox, self._read, self._run, first, BUFFERS, EVENTS)

    # Traffic

    def _offer(self) -> None:
        numbers = self._player.queued + np.arange(max(0, min(self._player.room, FRAMES - self._player.queued)))
        if len(numbers):
            starts = self._begin + (numbers * float(self.spacing)).astype(np.int64)
            self._player.put(starts, self._frames.make(numbers))

    def _step(self, until: int, receives: bool, sends: bool, *, more: bool = True) -> None:
        if more:
            self._offer()
        while self._backend.cycle < until:
            self._backend.advance(until)
            if self.mappings.fence_ended(self._backend.hits()):
                self._moved()
        self.mappings.watch()
        self.receiver.poll()
        self._release()
        self.sender.poll()
        self._record()
        if until < self._end and not self.mappings.busy and self.rng.random() < 50 / self.pause:
            self._move()

    def _came(self, ids: np.ndarray) -> None:
        """Look at what came, and forward the buffer or keep it."""
        at = slice(self._run.headroom, self._run.headroom + self._run.length)
        for buffer in ids.tolist():
            if not self._may_be_lost(buffer, self.let_go[buffer]):
                (number,) = self._frames.numbers(self.mappings.data(buffer)[None, at]).tolist()
                if number <= self.last:
                    raise FrameError(f"{self.name}: frame {number} came after frame {self.last}")
                self.number[buffer] = self.last = number
            if self.rng.random() < self.holds:
                self.held[buffer] = self._backend.cycle + self.rng.randrange(1500)
            else:
                self._forward(buffer)

    def _release(self) -> None:
        for buffer, until in list(self.held.items()):
            if until < self._backend.cycle:
                del self.held[buffer]
                self._forward(buffer)

    def _forward(self, buffer: int) -> None:
        self.order.append((buffer, self.let_go[buffer], self.number.pop(buffer, None)))
        self.let_go[buffer] = self._backend.cycle
        self.sender.let_go([buffer])

    def _record(self) -> None:
        """What left is what came."""
        _, rows = self._recorder.take(self._run.length)
        self._sent += len(rows)
        for row in rows:
            assert self.order, f"{self.name}: a frame left that nobody sent"
            buffer, before, number = self.order.popleft()
            if self._may_be_lost(buffer, before):
                self.lost += 1
            elif self._frames.numbers(row[None]) != [number]:
                raise FrameError(f"{self.name}: frame {number} was to leave, not {bytes(row).hex()}")
            else:
                self.exact += 1

    def _may_be_lost(self, buffer: int, before: int) -> bool:
        return self.wild[buffer] >= before

    # Moves

    def _move(self) -> None:
        """Move some pages at once."""
        rng, mappings = self.rng, self.mappings
        held = [buffer for buffer in self.held if rng.random() < 0.5][:4]
        free = [buffer for buffer in range(BUFFERS) if buffer not in self.held]
        self.wild_now = rng.sample(free, min(len(free), rng.choice((0, 1, 1, 3))))
        for buffer in held:
            del self.held[buffer]
            data = mappings.data(buffer)
            at = slice(self._run.headroom, self._run.headroom + self._run.length)
            if not self._may_be_lost(buffer, self.let_go[buffer]):
                self._frames.numbers(data[None, at])
            self.moving[buffer] = data[at].tobytes()
            mappings.unmap(buffer)
        for buffer in self.wild_now:
            self.wild[buffer] = FOREVER
            mappings.unmap(buffer)
            mappings.map(buffer)
        if held or self.wild_now:
            mappings.invalidate()
        self.moves += len(held)
        self.wild_moves += len(self.wild_now)

    def _moved(self) -> None:
        """Nobody reaches the old pages any more."""
        at = self._run.headroom
        for buffer in self.wild_now:
            self.wild[buffer] = self._backend.cycle
        for buffer, data in self.moving.items():
            self.mappings.map(buffer)
            self.mappings.data(buffer)[at : at + len(data)] = np.frombuffer(data, np.uint8)
            self.held[buffer] = self._backend.cycle + self.rng.choice((0, 0, 500))
        self.wild_now, self.moving = [], {}

    def _check_pool(self) -> None:
        """Every buffer is the NIC's again."""
        for _ in range(POLLS):
            buffers, outstanding = (
                (self._registers.pool[name], self._read(self._registers.address(name, pool=0)))
                for name in ("buffers", "outstanding")
            )
            found = {name: buffers[0].get(buffers[1], name) for name in ("free", "joined")}
            found |= {name: outstanding[0].get(outstanding[1], name) for name in ("outstanding", "ahead")}
            if found["free"] + found["ahead"] == found["joined"] == BUFFERS and not found["outstanding"]:
                return
        raise FrameError(f"{self.name}: of {BUFFERS} buffers, there were {found} after {POLLS} looks")


def storm(backend: Backend, machine: MachineConfig, seeds: list[int]) -> list[dict[str, Any]]:
    """Job: a run for each seed, and what happened in it."""
    results = []
    for index, seed in enumerate(seeds):
        if index:
            backend.reset()
        results.append(Moving(backend, machine, seed).play())
    return results
