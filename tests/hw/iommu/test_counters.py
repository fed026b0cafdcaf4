# SPDX-License-Identifier: BSD-2-Clause
"""Counters count exactly the events that their selector and filter let through."""

import random

import pytest
from amaranth.sim import Simulator

from hw.abi.iommu import Event
from hw.abi.iommu_registers import iommu_registers
from hw.abi.rings import AddressType
from hw.iommu.counters import EventCounter
from hw.iommu.register_access import row_of
from tests.hw.iommu.control_bench import ControlBench

R = iommu_registers()
EVT = R["iohpmevt1"]


def requester(rng):
    return {
        "device_id": rng.choice([0x120, 0x121, 0x123, 0x127, 0xF00123]),
        "process_id": rng.choice([0, 4, 5]),
        "process_id_valid": rng.random() < 0.5,
        "address_type": rng.choice(list(AddressType)),
    }


def space(rng):
    first, second = rng.random() < 0.5, rng.random() < 0.5
    return {
        "first": first,
        "pscid": rng.choice([4, 5]) * first,
        "second": second,
        "gscid": rng.choice([0x120, 0x123]) * second,
    }


def happening(rng):
    """One cycle of random events."""

    def flip():
        return rng.random() < 0.5

    return {
        "lookups": [
            {
                "strobe": flip(),
                "miss": flip(),
                "dropped": flip(),
                "requester": requester(rng),
                "space": space(rng),
            }
            for _ in range(2)
        ],
        "walk": {name: flip() for name in ("directory", "first", "second", "read", "cache_hit")}
        | {"requester": requester(rng), "space": space(rng)},
        "invalidated": rng.randrange(200),
        "faults": [flip(), flip()],
    }


def passes(event, who, where):
    """The specification's table of filters."""
    idt, dv, pv = event["idt"], event["dv_gscv"], event["pv_pscv"]
    outer = (where["second"], where["gscid"]) if idt else (True, who["device_id"])
    inner = (where["first"], where["pscid"]) if idt else (who["process_id_valid"], who["process_id"])
    ignored = 0
    if event["dmask"]:
        while event["did_gscid"] >> ignored & 1:
            ignored += 1
        ignored += 1
    if dv and not (outer[0] and outer[1] >> ignored == event["did_gscid"] >> ignored):
        return False
    return not (pv and not (inner[0] and inner[1] == event["pid_pscid"]))


def count(event, cycle):
    """What one cycle's events add."""
    what = Event(event["eventid"])
    types = {
        Event.UNTRANSLATED: AddressType.UNTRANSLATED,
        Event.TRANSLATED: AddressType.TRANSLATED,
        Event.ATS_REQUEST: AddressType.TRANSLATION_REQUEST,
        Event.PREFETCH: AddressType.PREFETCH,
    }
    walks = {
        Event.DIRECTORY_WALK: "directory",
        Event.FIRST_WALK: "first",
        Event.SECOND_WALK: "second",
        Event.TABLE_READ: "read",
        Event.WALK_CACHE_HIT: "cache_hit",
    }
    if event["idt"] and what in (*types, Event.DIRECTORY_WALK, Event.PROCESS_WALK, Event.PREFETCH_DROPPED):
        return 0
    lookups = [e for e in cycle["lookups"] if e["strobe"] and passes(event, e["requester"], e["space"])]
    if what in types:
        return sum(e["requester"]["address_type"] is types[what] for e in lookups)
    if what is Event.TLB_MISS:
        return sum(e["miss"] for e in lookups if e["requester"]["address_type"] is not AddressType.PREFETCH)
    if what is Event.PREFETCH_DROPPED:
        return sum(e["dropped"] for e in lookups)
    if what in walks:
        walk = cycle["walk"]
        return int(walk[walks[what]] and passes(event, walk["requester"], walk["space"]))
    if what in (Event.INVALIDATED, Event.FAULT) and not (event["dv_gscv"] or event["pv_pscv"]):
        return cycle["invalidated"] if what is Event.INVALIDATED else sum(cycle["faults"])
    return 0


@pytest.mark.parametrize("event", list(Event), ids=lambda event: event.name)
def test_random_events_through_random_filters(event):
    rng = random.Random(event.value)

    async def run(b):
        events = b.dut.events
        await b.put("iocountinh", 0)
        for trial in range(8):
            selectors = [
                {
                    "eventid": event.value,
                    "dmask": rng.randrange(2),
                    "pid_pscid": rng.choice([4, 5]),
                    "did_gscid": rng.choice([0x120, 0x121, 0x123, 0xFFFFFF]),
                    "pv_pscv": rng.randrange(2) * (trial > 1),
                    "dv_gscv": rng.randrange(2) * (trial > 1),
                    "idt": rng.randrange(2),
                }
                for _ in range(2)
            ]
            for n, selector in enumerate(selectors, 1):
                await b.set(f"iohpmevt{n}", **selector)
                await b.put(f"iohpmctr{n}", 0)
            cycles = [happening(rng) for _ in range(30)]
            for cycle in cycles:
                for k in range(2):
                    b.ctx.set(events.lookups[k], cycle["lookups"][k])
                    b.ctx.set(events.faults[k], cycle["faults"][k])
                b.ctx.set(events.walk, cycle["walk"])
                b.ctx.set(events.invalidated, cycle["invalidated"])
                await b.ticks(1)
            for k in range(2):
                b.ctx.set(events.lookups[k].strobe, 0)
                b.ctx.set(events.faults[k], 0)
            b.ctx.set(events.walk, {})
            b.ctx.set(events.invalidated, 0)
            for n, selector in enumerate(selectors, 1):
                expected = sum(count(selector, cycle) for cycle in cycles)
                assert await b.get(f"iohpmctr{n}") == expected, f"{event.name}, trial {trial}: {selector}"

    ControlBench().run(run)


def test_overflow_is_flagged_and_interrupts_once():
    async def run(b):
        await b.set("iohpmevt2", eventid=Event.INVALIDATED.value)
        await b.put("iohpmctr2", (1 << 64) - 3)
        b.ctx.set(b.dut.events.invalidated, 5)
        await b.ticks(1)
        b.ctx.set(b.dut.events.invalidated, 0)
        await b.ticks(3)
        assert await b.get("iohpmctr2") == 2
        assert await b.get("iohpmevt2", "of") == 1
        assert await b.get("iocountovf") == 0b100
        assert await b.get("ipsr", "pmip") == 1
        await b.set("ipsr", pmip=1)
        await b.put("iohpmctr2", (1 << 64) - 1)
        b.ctx.set(b.dut.events.invalidated, 1)
        await b.ticks(1)
        b.ctx.set(b.dut.events.invalidated, 0)
        await b.ticks(3)
        assert await b.get("iohpmctr2") == 0
        assert await b.get("ipsr", "pmip") == 0  # OF was 1 already
        await b.set("iohpmevt2")
        assert await b.get("iocountovf") == 0

    ControlBench().run(run)


@pytest.mark.parametrize("of", [0, 1], ids=["arms", "silences"])
@pytest.mark.parametrize("written", range(4))
def test_a_selector_written_near_an_overflow_interrupts_as_if_before_or_after_it(written, of):
    """The counter wraps at the end of cycle 1. A write up to then decides whether that interrupts."""
    selector = {"eventid": Event.INVALIDATED.value}
    before = 1 - of
    raised = 0

    async def testbench(ctx):
        nonlocal raised

        async def write(name, value):
            ctx.set(dut.write, {"strobe": 1, "row": row_of(name), "halves": 3, "data": value})
            await ctx.tick()
            ctx.set(dut.write.strobe, 0)

        await write("iohpmctr1", (1 << 64) - 1)
        await write("iohpmevt1", EVT.pack(**selector, of=before))
        for cycle in range(5):
            ctx.set(dut.events.invalidated, cycle == 0)
            new = EVT.pack(**selector, of=of)
            ctx.set(dut.write, {"strobe": cycle == written, "row": row_of("iohpmevt1"), "halves": 3, "data": new})
            raised += ctx.get(dut.overflowed)
            await ctx.tick()
        assert ctx.get(dut.counter) == 0
        assert raised == (1 - of if written <= 1 else 1 - before)
        assert ctx.get(dut.selector.of) == (1 if written <= 1 else of)

    dut = EventCounter(1)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


def test_halves_of_counters_are_written_and_read_alone():
    async def run(b):
        await b.put("iocountinh", 1)
        for name in ("iohpmcycles", "iohpmctr1", "iohpmevt1"):
            at = R[name].offset
            await b.put(name, 0x0123_4567_89AB_CDEF)
            await b.registers.write_at(b.ctx, at + 4, 0xFEDC_BA98 << 32, strobe=0xF0)
            assert await b.get(name) == 0xFEDC_BA98_89AB_CDEF, name
            await b.registers.write_at(b.ctx, at, 0x7654_3210, strobe=0x0F)
            assert await b.get(name) == 0xFEDC_BA98_7654_3210, name
            row, _ = await b.registers.read_at(b.ctx, at + 4)
            assert row >> 32 == 0xFEDC_BA98, name
        assert await b.get("iocountovf") == 0b11

    ControlBench().run(run)


def test_cycles_count_clock_cycles_and_overflow_at_63_bits():
    async def run(b):
        first, began = await b.get("iohpmcycles"), b.cycle
        await b.ticks(37)
        assert await b.get("iohpmcycles") - first == b.cycle - began
        await b.set("iohpmcycles", counter=(1 << 63) - 20)
        await b.ticks(40)
        assert await b.get("iocountovf") == 1
        value = await b.get("iohpmcycles")
        assert value >> 63 == 1
        assert value % (1 << 63) < 100
        assert await b.get("ipsr", "pmip") == 1

    ControlBench().run(run)


def test_inhibited_counters_stand_still():
    async def run(b):
        for n in (1, 2):
            await b.set(f"iohpmevt{n}", eventid=Event.FAULT.value)
        await b.set("iocountinh", cy=1, hpm=0b10)
        b.ctx.set(b.dut.events.faults[0], 1)
        cycles = await b.get("iohpmcycles")
        await b.ticks(20)
        b.ctx.set(b.dut.events.faults[0], 0)
        await b.ticks(2)
        assert await b.get("iohpmctr1") >= 20
        assert await b.get("iohpmctr2") == 0
        assert await b.get("iohpmcycles") == cycles

    ControlBench().run(run)


def test_a_debug_translation_is_an_untranslated_request():
    async def run(b):
        await b.set("iohpmevt1", eventid=Event.UNTRANSLATED.value, dv_gscv=1, did_gscid=7)
        await b.set("iohpmevt2", eventid=Event.TLB_MISS.value)
        await b.set("tr_req_ctl", go_busy=1, did=7)
        await b.ticks(20)
        assert await b.get("iohpmctr1") == 1
        assert await b.get("iohpmctr2") == 0

    ControlBench().run(run)
