# SPDX-License-Identifier: BSD-2-Clause
"""Frames go to the queue that rules, addresses, RSS and the default give them, in order, at the stated pace."""

from itertools import product

import pytest

from hw.abi.registers import register_map
from hw.abi.rings import NetworkLayer, TransportLayer
from hw.abi.steering import RSS_TABLE_ENTRIES, RULE_BANKS, RuleError, rule_slots
from hw.config import preset
from tests.hw.nic.rx.flows import IP, SUITE, SUITE_KEY, WITH_PORTS, Flow
from tests.hw.nic.rx.steering_bench import BOUND, SteeringBench

WIDTHS = [64, 128, 256, 512]
TYPES = tuple(register_map(1).port["rss_types"].fields)
IP_TYPES = ("ipv4", "ipv6")
ELSEWHERE = bytes.fromhex("0200000000ff")


def config(width, **changes):
    built = {"queues": 8, "classify": True, "rss": True, "steering_rules": 64}
    return preset("10g", data_width=width, **(built | changes))


def flow_of(number, network=NetworkLayer.IPV4, transport=TransportLayer.UDP):
    size = 4 if network is NetworkLayer.IPV4 else 16
    return Flow(b"\x0a".ljust(size, b"\0"), b"\x0b".ljust(size, b"\0"), 1000 + number, 53, network, transport)


@pytest.mark.parametrize("width", [64, 512])
@pytest.mark.parametrize("with_ports", [False, True])
def test_the_verification_suite_gives_its_hashes_and_queues(width, with_ports):
    bench = SteeringBench(config(width, steering_rules=0))
    table = [(5 * entry + 3) % 8 for entry in range(RSS_TABLE_ENTRIES)]
    flows = [
        Flow.of(source, source_port, destination, destination_port, TransportLayer.TCP)
        for destination, destination_port, source, source_port, *_ in SUITE
    ]
    expected = [row[5 if with_ports else 4] for row in SUITE]

    async def scenario(ctx):
        bench.set_rss(ctx, SUITE_KEY, ("tcp_ipv4", "tcp_ipv6") if with_ports else ("ipv4", "ipv6"))
        await bench.set_table(ctx, table)
        await bench.send(ctx, [(60, ELSEWHERE, flow) for flow in flows])
        await bench.settle(ctx, len(flows))

    bench.run(scenario)
    assert [frame.info.rss_hash for _, frame in bench.out] == expected
    assert [frame.queue for _, frame in bench.out] == [table[value % 128] for value in expected]
    assert all(frame.info.hash_valid and frame.routed for _, frame in bench.out)
    assert {bool(frame.info.hash_ports) for _, frame in bench.out} == {with_ports}


def model(flow, destination, *, rules, macs, key, types, table, default, queues):
    """(queue, routed, hash or None) of a frame, by the precedence of the contract."""
    value = flow.hash(key, types)
    if flow in rules:
        return rules[flow], 1, value
    if destination in macs:
        return macs.index(destination), 1, value
    if value is not None:
        return table[value % 128], 1, value
    return (default, 1, None) if default < queues else (0, 0, None)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("seed", range(3))
def test_random_frames_find_the_queue_of_the_model_under_stalls(width, seed):
    queues = (8, 1, 16)[seed]
    bench = SteeringBench(config(width, queues=queues), seed=seed, stall=(0.0, 0.3, 0.6)[seed])
    rng = bench.random
    key, table = rng.randbytes(40), [rng.randrange(queues) for _ in range(RSS_TABLE_ENTRIES)]
    types = [name for name in TYPES if rng.random() < 0.6]
    macs = [bytes([2, 0, 0, 0, 0, queue]) for queue in range(queues)]
    default = rng.choice((0, queues - 1, queues, 255))
    flows = [Flow.random(rng) for _ in range(40)]
    rules = {f: rng.randrange(queues) for f in flows[:25] if f.network in IP and f.transport in WITH_PORTS}
    # The same addresses and ports under another protocol are another flow.
    flows += [
        Flow(f.source, f.destination, f.source_port, f.destination_port, f.network, transport)
        for f in flows[:8]
        for transport in TransportLayer
    ]
    frames = [(60 + number, rng.choice((*macs, *[ELSEWHERE] * queues)), rng.choice(flows)) for number in range(100)]

    async def scenario(ctx):
        ctx.set(bench.dut.default_queue, default)
        bench.set_rss(ctx, key, types)
        await bench.set_table(ctx, table)
        for queue, address in enumerate(macs):
            await bench.steer(ctx, queue, address)
        await bench.cleared(ctx)
        used = set()
        for flow, queue in rules.items():
            place = next(place for place in rng.sample(bench.places(flow), RULE_BANKS) if place not in used)
            used.add(place)
            assert await bench.insert(ctx, flow, queue, place) is RuleError.NONE
        await bench.send(ctx, frames)
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    known = {"rules": rules, "macs": macs, "key": key, "types": types, "table": table}
    for (length, destination, flow), (_, frame) in zip(frames, bench.out, strict=True):
        queue, routed, value = model(flow, destination, default=default, queues=queues, **known)
        assert (frame.length, frame.info.vlan) == (length, length), "order is kept"
        assert (frame.queue, frame.routed) == (queue, routed), (flow, destination)
        assert frame.info.hash_valid == (value is not None)
        assert frame.info.hash_ports == flow.hash_ports(types)
        if value is not None:
            assert frame.info.rss_hash == value


@pytest.mark.parametrize("width", [64, 512])
def test_each_hash_says_whether_it_has_ports_whatever_is_set_behind_it(width):
    bench = SteeringBench(config(width, steering_rules=0), stall=0.3)
    flows = [flow_of(number, *kind) for number, kind in enumerate(product(IP, TransportLayer))]
    settings = [
        ("ipv4", "tcp_ipv4", "ipv6"),
        TYPES,
        ("udp_ipv4", "ipv6"),
        (),
        IP_TYPES,
        ("ipv4", "udp_ipv6"),
        TYPES,
    ] * 10

    async def scenario(ctx):
        for number, types in enumerate(settings):
            # Right behind the frame before, while that is still being looked up.
            bench.set_rss(ctx, SUITE_KEY, types)
            await bench.send(ctx, [(60, ELSEWHERE, flows[number % len(flows)])])
        await bench.settle(ctx, len(settings))

    bench.run(scenario)
    seen = set()
    for number, (types, (_, frame)) in enumerate(zip(settings, bench.out, strict=True)):
        flow = flows[number % len(flows)]
        value = flow.hash(SUITE_KEY, types)
        assert (frame.info.hash_valid, frame.info.hash_ports) == (value is not None, flow.hash_ports(types))
        assert value in (None, frame.info.rss_hash)
        seen.add((flow.network, flow.transport, value is not None, flow.hash_ports(types)))
    assert {(*kind, True, True) for kind in product(IP, WITH_PORTS)} <= seen
    assert {(*kind, True, False) for kind in product(IP, TransportLayer)} <= seen


@pytest.mark.parametrize(
    ("width", "changes", "pace", "latency"),
    [
        (64, {}, 8, 13),
        (128, {}, 4, 10),
        (256, {}, 2, 8),
        (512, {}, 1, 7),
        (512, {"steering_rules": 0}, 1, 6),
        (64, {"rss": False}, 4, 10),
        (64, {"rss": False, "steering_rules": 0}, 1, 2),
    ],
)
def test_pace_and_latency_are_as_stated(width, changes, pace, latency):
    bench = SteeringBench(config(width, **changes))
    count = 40

    async def scenario(ctx):
        await ctx.tick().repeat(200)
        await bench.send(ctx, [(60, ELSEWHERE, flow_of(number)) for number in range(count)])
        await bench.settle(ctx, count)

    bench.run(scenario)
    came = [at for at, _ in bench.out]
    assert came == [came[0] + pace * number for number in range(count)]
    assert came[0] == bench.taken[0] + latency + 1
    # Where rules alone are the slower, one packet may wait in front of them.
    assert [later - at for at, later in zip(bench.taken[2:], bench.taken[3:])] == [pace] * (count - 3)


def test_rules_are_inserted_replaced_moved_and_removed_while_frames_go_on():
    bench = SteeringBench(config(512, rss=False), stall=0.2)
    flow, other = flow_of(1), flow_of(2)
    log = []

    async def look(ctx, asked):
        """The queue that five frames of a flow find."""
        before = len(bench.out)
        await bench.send(ctx, [(60, ELSEWHERE, asked)] * 5)
        await bench.settle(ctx, before + 5)
        (queue,) = {frame.queue for _, frame in bench.out[before:]}
        return queue

    async def scenario(ctx):
        await bench.cleared(ctx)
        first, second, third, fourth = bench.places(flow)
        steps = (
            (bench.insert(ctx, flow, 3, fourth), 3),
            (bench.insert(ctx, flow, 4, fourth), 4),
            (bench.insert(ctx, flow, 5, second), 5),  # the lower bank counts
            (bench.remove(ctx, fourth), 5),
            (bench.insert(ctx, flow, 6, third), 5),
            (bench.remove(ctx, second), 6),
            (bench.remove(ctx, third), 0),
            (bench.remove(ctx, third), 0),
            (bench.insert(ctx, flow, 7, (first + 1) % rule_slots(64)), 0),  # not a place of this flow
        )
        for command, queue in steps:
            log.append((await command, await look(ctx, flow), queue))
            assert await look(ctx, other) == 0

    bench.run(scenario)
    assert [(error, found) for error, found, _ in log] == [(RuleError.NONE, queue) for *_, queue in log]


@pytest.mark.parametrize("width", [64, 512])
def test_commands_that_make_no_sense_change_nothing_and_say_why(width):
    bench = SteeringBench(config(width, rss=False))
    flow = flow_of(1)
    answers = []

    async def scenario(ctx):
        place = bench.places(flow)[1]
        answers.append(await bench.insert(ctx, flow, 2, place))
        assert await bench.cleared(ctx) >= rule_slots(64) - 2
        answers.append(await bench.insert(ctx, flow, 3, place))
        answers.append(await bench.insert(ctx, flow, 8, place))
        answers.append(await bench.insert(ctx, flow, 255, place))
        for network in NetworkLayer:
            for transport in TransportLayer:
                if network not in IP or transport not in WITH_PORTS:
                    answers.append(await bench.insert(ctx, flow_of(1, network, transport), 1, place))
        answers.append(await bench.insert(ctx, flow, 4, place + RULE_BANKS * rule_slots(64)))
        answers.append(await bench.remove(ctx, 0xFFFF))
        await bench.send(ctx, [(60, ELSEWHERE, flow)])
        await bench.settle(ctx, 1)

    bench.run(scenario)
    wrong_type = [RuleError.PACKET_TYPE] * (len(NetworkLayer) * len(TransportLayer) - len(IP) * len(WITH_PORTS))
    assert answers == [
        *(RuleError.BUSY, RuleError.NONE, RuleError.QUEUE, RuleError.QUEUE),
        *wrong_type,
        *(RuleError.INDEX, RuleError.INDEX),
    ]
    assert bench.out[0][1].queue == 3, "only the one that was done has an effect"


@pytest.mark.parametrize("width", [64, 256, 512])
@pytest.mark.parametrize("rules", [64, 512])
def test_a_reset_forgets_rules_table_and_frames_under_way(width, rules):
    bench = SteeringBench(config(width, steering_rules=rules))
    flow = flow_of(1)

    async def scenario(ctx):
        bench.set_rss(ctx, SUITE_KEY, ("ipv4", "udp_ipv6"))
        await bench.set_table(ctx, [7] * RSS_TABLE_ENTRIES)
        await bench.cleared(ctx)
        for place in bench.places(flow):
            assert await bench.insert(ctx, flow, 5, place) is RuleError.NONE
        await bench.send(ctx, [(60, ELSEWHERE, flow)] * 3)
        ctx.set(bench.reset, 1)
        await ctx.tick()
        ctx.set(bench.reset, 0)
        bench.out.clear()
        assert ctx.get(bench.dut.rules.error) is RuleError.NONE
        assert ctx.get(bench.dut.rules.busy)
        assert not ctx.get(bench.dut.input.ready)
        await bench.send(ctx, [(60, ELSEWHERE, flow), (61, ELSEWHERE, flow_of(2))])
        await bench.settle(ctx, 2)

    bench.run(scenario)
    assert [(frame.length, frame.queue, frame.routed) for _, frame in bench.out] == [(60, 0, 1), (61, 0, 1)]


def test_the_table_reads_back_what_was_written_and_zeros_before():
    bench = SteeringBench(config(64, steering_rules=0, queues=5))
    table = [entry * 7 % 5 for entry in range(RSS_TABLE_ENTRIES)]
    before, after = [], []

    async def read(ctx, rows):
        port = bench.dut.rss.table
        for row in range(16):
            ctx.set(port.row, row)
            await ctx.tick()
            rows += ctx.get(port.value).to_bytes(8, "little")

    async def scenario(ctx):
        await read(ctx, before)
        await bench.set_table(ctx, table)
        await read(ctx, after)

    bench.run(scenario)
    assert before == [0] * RSS_TABLE_ENTRIES
    assert after == table


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("spacing", [1, 3, 12])
def test_a_rule_that_moves_is_always_found(width, spacing):
    """Also where its old place is reused in the next cycle; registers are written every third at most."""
    bench = SteeringBench(config(width, rss=False), seed=spacing)
    flow, others = flow_of(1), [flow_of(number) for number in range(2, 12)]
    done = []

    async def churn(ctx):
        await bench.cleared(ctx)
        places = bench.places(flow)
        await bench.insert(ctx, flow, 6, places[0])
        done.append("inserted")
        for number in range(60):
            old, new = places[number * 3 % RULE_BANKS], places[(number + 1) * 3 % RULE_BANKS]
            await bench.insert(ctx, flow, 6, new)
            for _ in range(spacing - 1):
                await ctx.tick()
            if number % 2:
                await bench.remove(ctx, old)
            else:
                await bench.insert(ctx, bench.random.choice(others), 3, old)
            await ctx.tick().repeat(bench.random.randint(1, 12))
        done.append("churned")

    async def scenario(ctx):
        for _ in range(BOUND):
            await ctx.tick()
            if done:
                break
        sent = 0
        while "churned" not in done and sent < BOUND:
            await bench.send(ctx, [(60, ELSEWHERE, flow)] * 10)
            sent += 10
        await bench.settle(ctx, sent)
        assert sent >= 20

    bench.run(scenario, churn)
    assert {frame.queue for _, frame in bench.out} == {6}


@pytest.mark.parametrize("width", [64, 512])
def test_a_packet_of_zeros_is_not_taken_for_an_empty_place(width):
    bench = SteeringBench(config(width, rss=False))
    flows = [
        Flow(bytes(4), bytes(4), 0, 0, network, transport) for network in NetworkLayer for transport in TransportLayer
    ]

    async def scenario(ctx):
        ctx.set(bench.dut.default_queue, 5)
        await bench.send(ctx, [(60, ELSEWHERE, flow) for flow in flows])
        await bench.settle(ctx, len(flows))

    bench.run(scenario)
    assert [frame.queue for _, frame in bench.out] == [5] * len(flows)
