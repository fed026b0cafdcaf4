# SPDX-License-Identifier: BSD-2-Clause
"""Software that makes packets as fast as it can, for a device that takes fewer: most of them are dropped by the qdisc.

So pktgen's mode ``queue_xmit`` measured ``kfree_skb_list`` (xdp-project, ``areas/mem/kfree_skb_list01.org``): the other
end of the wire held the device back to 256,912 packets a second. That 1,417,469 errors came with 100 million packets
says that the qdisc dropped 64 at a time: it was ``fq_codel``.
"""

from dataclasses import dataclass, field
from fractions import Fraction

from driver_model.cpu.profile import Profile
from driver_model.net.qdisc import Qdisc
from driver_model.net.skb.free import GRACE_PERIOD_PS
from driver_model.net.skb.policy import SkbPolicy
from driver_model.net.skb.sk_buff import skb_put
from sim.audit import Audit, RunError
from sim.backends.base import Backend
from sim.config import MachineConfig
from sim.measurement import Measurement
from sim.run import RunConfig
from sim.scenario import MICROSECOND, STEP, Scenario
from sim.traffic.flows import Flows
from sim.traffic.source import Traffic

GRACES = 4  #: grace periods that a run may wait
LIMIT_US = 200  #: that a packet may take on average, before the run is given up
BURST = 32  #: packets between two looks at interrupts: pktgen's own look after each costs the simulation much time
FRAME_BYTES = 60  #: of a packet, without FCS


@dataclass(frozen=True)
class PktgenRun:
    """One run.

    Attributes
    ----------
    skb : how SKBs are made and freed
    packets : that are counted, when the qdisc is full; where SKBs are freed a grace period later, at least so many,
        and whole periods
    limit, drop_batch : of the qdisc
    ring : entries of each ring
    profile : cost profile of the core
    checkers : the ownership checker
    """

    skb: SkbPolicy = field(default_factory=SkbPolicy)
    packets: int = 20_000
    limit: int = 10_240
    drop_batch: int = 64
    ring: int = 512
    profile: str = "e5-1650v4"
    checkers: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.packets, int) or isinstance(self.packets, bool) or self.packets < 1:
            raise ValueError(f"packets must be an integer, 1 or more, not {self.packets!r}")
        if self.profile not in Profile.names():
            raise ValueError(f"profile must be one of {', '.join(Profile.names())}, not {self.profile!r}")

    @property
    def config(self) -> RunConfig:
        """The machine's part; nothing comes in."""
        return RunConfig(
            Traffic(), skb=self.skb, ring=self.ring, profile=self.profile, verdict="none", checkers=self.checkers
        )

    def check(self, machine: MachineConfig) -> None:
        """Raise ``ValueError`` unless the run fits on a machine."""
        self.config.check(machine)


class Pktgen(Scenario):
    """A run on a machine just after reset: its packets are counted as delivered when they are handed to the qdisc, as
    pktgen does, and as dropped, besides, when that drops them.

    A packet costs an SKB, its bytes' stores, and what the qdisc takes; what pktgen itself takes to make one up is not
    charged.
    """

    def __init__(self, backend: Backend, machine: MachineConfig, run: PktgenRun) -> None:
        super().__init__(backend, machine, run.config)
        self._run = run
        self._frame = Flows(1, 1, 1).frame(0, FRAME_BYTES, 0)
        self._measured: Measurement | None = None

    def run(self) -> Measurement:
        """Open the device, fill the qdisc, count, and close. Raises :class:`RunError` for what is left over."""
        self._process("set-up", self._open)
        queue = self.driver.queues[0]
        qdisc = Qdisc(self.host.softnets[0], queue.skbs, self._run.limit, self._run.drop_batch)
        queue.tx.wake = qdisc.wake
        self.system.cores[0].spawn("kpktgend", lambda: self._generate(qdisc))
        limit = self.platform.now + GRACES * GRACE_PERIOD_PS
        limit += (self._run.limit + self._run.packets) * LIMIT_US * MICROSECOND
        while self._measured is None:
            self.platform.run(self.platform.now + STEP)
            self._observe()
            if self.platform.now > limit:
                raise RunError(f"Waited until {limit // MICROSECOND} us for {self._run.packets} packets to be made")
        self._process("qdisc_reset", qdisc.reset)
        self._process("closing", self._close)
        audit = Audit(self)
        audit.check_device()
        audit.check_memory()
        return self._measured

    def _generate(self, qdisc: Qdisc) -> None:
        """``pktgen_thread_worker``."""
        core = self.system.cores[0]
        while not qdisc.statistics.drops:
            self._send(qdisc)
        self._end_grace_period(qdisc)
        start, before, dropped = core.time, self.system.operations(), qdisc.statistics.drops
        packets = 0
        while packets < self._run.packets:
            packets += self._send(qdisc) + self._end_grace_period(qdisc)
        operations: dict[str, tuple[int, int]] = {}
        for name, (count, ps) in self.system.operations().items():
            old_count, old_ps = before.get(name, (0, 0))
            if count > old_count:
                operations[name] = count - old_count, ps - old_ps
        self._measured = Measurement(
            clock_khz=self.machine.nic.clock_khz,
            core_khz=self.profile.khz,
            offered=packets,
            delivered=packets,
            dropped={"qdisc": qdisc.statistics.drops - dropped},
            lengths={FRAME_BYTES: packets},
            cycles=Fraction(core.time - start, self.machine.cycle_ps),
            operations=operations,
            statistics={},
            accesses={},
        )

    def _end_grace_period(self, qdisc: Qdisc) -> int:
        """Go on until what waits for the end of a grace period is freed, if anything does; packets."""
        freeing = self.host.softnets[0].freeing
        packets, waiting = 0, freeing.waiting
        while waiting and freeing.waiting >= waiting:
            waiting = freeing.waiting
            packets += self._send(qdisc)
        return packets

    def _send(self, qdisc: Qdisc) -> int:
        """``pktgen_xmit``, some times, with softirqs disabled; packets."""
        core, skbs, frame = self.system.cores[0], self.host.softnets[0].skbs, self._frame
        core.softirq.disable()
        for _ in range(BURST):
            skb = skbs.alloc_skb(len(frame))
            if skb is None:
                raise RunError("There is no memory for a packet")
            core.store_owned(skb_put(skb, len(frame)), frame)
            qdisc.dev_queue_xmit(skb)
        core.softirq.enable()
        return BURST
