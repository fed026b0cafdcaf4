# SPDX-License-Identifier: BSD-2-Clause
"""A traced run on the whole machine: the same cycles as without, and every packet followed to its end."""

from collections import Counter, defaultdict
from dataclasses import asdict, replace
from typing import Any
from unittest import mock

import pytest

from driver_model.events import EventLog
from driver_model.net.xdp import XDP_PACKET_HEADROOM
from sim.accesses import AccessJoiner
from sim.backends.base import Access, Backend, launch
from sim.config import SERIAL_BITS, MachineConfig, preset
from sim.host.trace import TRACE
from sim.run import RunConfig
from sim.scenario import Scenario
from sim.trace.timeline import join_timeline
from sim.traffic.source import Traffic

HERE = "tests.cosim.test_tracing"
FRAMES = 250
PLAIN = preset("10g", access_log=True)
TRACED = replace(PLAIN, nic=replace(PLAIN.nic, serial_width=SERIAL_BITS))
RECYCLED = replace(TRACED, nic=replace(TRACED.nic, pools=2))
WAY = ["arrived", "accepted", "taken", "completed", "received", "verdict"]


def observe(backend: Backend, machine: MachineConfig, verdicts: list[str]) -> list[dict[str, Any]]:
    """Runs on two cores and two queues; all of the device's accesses to memory and all frames sent, with their cycles,
    what the cores did, and with serials the timeline."""
    assert (TRACE in backend.storage) == bool(machine.nic.serial_width)
    strategy = "hw_recycle" if machine.nic.pools else "page_pool"
    results = []
    for verdict in verdicts:
        backend.reset()
        traffic = Traffic("imix", frames=FRAMES, flows=8, queues=2, seed=3)
        config = RunConfig(traffic, strategy, verdict, cores=2, queues=2, ring=128, checkers=False)
        log = EventLog() if machine.nic.serial_width else None
        scenario = Scenario(backend, machine, config, log=log)
        accesses: list[Access] = []
        joiner = AccessJoiner(machine.host_width // 8)
        take = backend.accesses

        def keep(accesses: list[Access] = accesses, take: Any = take) -> list[Access]:
            accesses.extend(new := take())
            return new

        with mock.patch.object(backend, "accesses", keep):
            measured = scenario.run()
        result = {
            "measured": measured.as_json(),
            "end": backend.cycle,
            "sent": [[frame.first, frame.last, frame.data.hex()] for frame in scenario.sent],
            "accesses": sorted(joiner.add(accesses + backend.accesses()) + joiner.rest()),
        }
        if log is not None:
            timeline = join_timeline(scenario.happened, log.events, machine.cycle_ps)
            result |= {
                "packets": [asdict(packet) | {"times": packet.times()} for packet in timeline.packets],
                "start": [scenario.frames[0].start, [frame.start for frame in scenario.frames]],
                "costs": log.cost_by_function(),
                "operations": scenario.system.operations(),
            }
        results.append(result)
    return results


@pytest.fixture(scope="module")
def traced() -> dict[str, Any]:
    verdicts = ["drop", "tx", "pass"]
    return dict(zip(verdicts, launch("verilator", TRACED, f"{HERE}:observe", verdicts), strict=True))


@pytest.fixture(scope="module")
def recycled() -> dict[str, Any]:
    verdicts = ["drop", "tx"]
    return dict(zip(verdicts, launch("verilator", RECYCLED, f"{HERE}:observe", verdicts), strict=True))


def test_tracing_changes_no_cycle(traced: dict[str, Any]) -> None:
    verdicts = list(traced)
    for verdict, plain in zip(verdicts, launch("verilator", PLAIN, f"{HERE}:observe", verdicts), strict=True):
        assert "packets" not in plain
        assert len(plain["accesses"]) > 2 * FRAMES
        assert {name: traced[verdict][name] for name in plain} == plain


@pytest.mark.parametrize("verdict", ["drop", "tx", "pass"])
def test_every_packet_is_followed_to_its_buffers_return(traced: dict[str, Any], verdict: str) -> None:
    packets = traced[verdict]["packets"]
    assert [packet["serial"] for packet in packets] == list(range(FRAMES))
    fates = Counter(packet["fate"] for packet in packets)
    delivered = fates.pop(verdict)
    dropped = traced[verdict]["measured"]["dropped"]
    assert fates == {f"dropped: {reason}": count for reason, count in dropped.items()}
    assert delivered == traced[verdict]["measured"]["delivered"] > FRAMES // 2
    for packet in packets:
        times = packet["times"]
        if packet["fate"] != verdict:
            continue
        assert list(times)[: len(WAY)] == WAY, packet
        assert list(times.values()) == sorted(times.values())
        rest = {"queued", "gathered", "sent", "cleaned", "returned"} if verdict == "tx" else {"returned"}
        assert times.keys() - set(WAY) == rest, packet
        assert times["returned"] > times["gathered" if verdict == "tx" else "verdict"]


@pytest.mark.parametrize("verdict", ["drop", "tx"])
def test_a_packet_whose_buffer_the_nic_takes_back_is_followed_to_the_wire(
    recycled: dict[str, Any], verdict: str
) -> None:
    """What is sent is the NIC's again from its descriptor on, and nobody cleans it up."""
    packets = [packet for packet in recycled[verdict]["packets"] if packet["fate"] == verdict]
    assert len(packets) == recycled[verdict]["measured"]["delivered"] > FRAMES // 2
    for packet in packets:
        times = packet["times"]
        assert list(times)[: len(WAY)] == WAY, packet
        rest = {"queued", "gathered", "sent", "returned"} if verdict == "tx" else {"returned"}
        assert times.keys() - set(WAY) == rest, packet


def test_steps_agree_with_what_others_saw(traced: dict[str, Any]) -> None:
    result, cycle = traced["tx"], PLAIN.cycle_ps
    packets = result["packets"]
    offsets = [packet["times"]["arrived"] // cycle - start for packet, start in zip(packets, result["start"][1])]
    assert len(set(offsets)) == 1, "a frame did not begin at its own time on the wire"
    sent = sorted(packet["times"]["sent"] for packet in packets if packet["fate"] == "tx")
    assert sent == [last * cycle for _, last, _ in result["sent"]]
    writes: dict[int, list[int]] = defaultdict(list)  # by address, picoseconds
    for edge, address, _, is_write in result["accesses"]:
        if is_write:
            writes[address].append(edge * cycle)
    for packet in packets:
        times = packet["times"]
        for time, name, buffer in packet["steps"]:
            if name == "received":
                arrivals = writes[buffer + XDP_PACKET_HEADROOM]
                assert any(times["taken"] < arrival < time for arrival in arrivals), "no byte came before the driver"


def test_the_log_holds_all_that_was_spent(traced: dict[str, Any]) -> None:
    for result in traced.values():
        charged = {name: ps for name, (_, ps) in result["operations"].items() if ps}
        assert {name: ps for name, ps in result["costs"].items() if ps} == charged
