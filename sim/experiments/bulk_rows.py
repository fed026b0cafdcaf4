# SPDX-License-Identifier: BSD-2-Clause
"""What experiment ``bulk`` compares: its own ways with each other, and with what is published."""

from collections.abc import Mapping, Sequence
from typing import Any

from sim.bulk.loops import PAGES, SLAB
from sim.experiments.compare import given, predicted
from sim.experiments.published import figure, published
from sim.report import Row

#: Loops that the profiles are solved from, or checked by: by part, way and count.
GIVEN: Mapping[tuple[str, str, int], str] = {
    (PAGES, "single", 1): "page, order 0, single",
    **{(PAGES, "array", count): f"page, order 0, bulk of {count}" for count in (2, 16, 64, 128)},
    (SLAB, "looped", 1): "slab, single",
    (SLAB, "detached", 1): "slab, bulk of 1",
    (SLAB, "detached", 16): "slab, bulk of 16",
    (SLAB, "detached", 64): "slab, bulk of 64, detached freelists",
    (SLAB, "object_by_object", 64): "slab, bulk of 64, object by object",
}
FIGURES = {PAGES: "page.bulk", SLAB: "slub"}  #: of loops, by part
LATER, FIRST = "i7-4790k 4.2 GHz", "i7-4790k 4.0 GHz"
#: Throughput of a way on the machine: part, profile, way, and the figure.
THROUGHPUT: Sequence[tuple[str, str, str, str]] = (
    ("forward", LATER, "one_by_one", "forward.bulk_free.before"),
    ("forward", LATER, "bulk_free", "forward.bulk_free.after"),
    ("forward", LATER, "reuse", "forward.reuse.after"),
    ("forward", FIRST, "one_by_one", "forward.bulk_free.first.before"),
    ("forward", FIRST, "bulk_free", "forward.bulk_free.first.after"),
    ("forward", FIRST, "bulk_free", "forward.bulk_free.nomerge"),
)
#: What one way saves against another: part, profile, both ways, and the figure. What pages that do not come back cost
#: was measured with XDP_REDIRECT into a veth behind which SKBs were made and dropped. Here the driver makes them, and a
#: filter drops them: the page's way is the same, the packet's is not, so rates are not compared.
SAVED: Sequence[tuple[str, str, str, str, str]] = (
    ("forward", LATER, "one_by_one", "bulk_free", "forward.bulk_free.saved"),
    ("forward", LATER, "one_by_one", "bulk_free", "forward.bulk_free.gain"),
    ("forward", LATER, "bulk_free", "reuse", "forward.reuse.saved"),
    ("forward", FIRST, "one_by_one", "bulk_free", "forward.bulk_free.first_saved"),
    ("kfree_skb_list", "e5-1650v4", "one_by_one", "bulk", "kfree_skb_list.saved"),
    ("refill", "e5-1650v4", "single", "bulk", "page_pool.refill.saved"),
    ("refill", "e5-1650v4", "single", "bulk", "page_pool.refill.later_saved"),
)
BULK_FREE = (("one_by_one", "bulk_free"), ("one_by_one_shared", "bulk_free_shared"))  #: in forwarding
SLOW_PATH_SOURCE = "Brouer on netdev, 8 February 2016: the stack hits the slow path when it frees SKBs"
EXPLANATIONS: Mapping[str, str] = {
    "slub.looped": (
        "The fallback of the bulk calls takes some 15 cycles a call, however many objects: 62 for one, 55 for each of "
        "two, 49 for each of 16. The profile has no such call, and its pair of 47 cycles is that without it"
    ),
    "slub.object_by_object": (
        "The profile has one cost of an object in bulk, 14.9 cycles, from bulks of 16 and of one. As published, in "
        "calls of few objects each further one takes 8 or 9 (46, 54, 63 and 72 cycles for one to four)"
    ),
    "slub.detached": (
        "Few objects: the profile has one cost of an object in bulk, where small bulks are cheaper for each. Many: "
        "each step is of 256 bytes, so the first lines of more than 128 objects do not fit into a first-level cache of "
        "32 KiB and 8 ways, whose misses are not modelled"
    ),
    "forward.bulk_free.": (
        "The slow path is met half as often. In the first test __slab_free and its cmpxchg took 3.3 % of 489 ns, which "
        "is about one slow free of 60 cycles a packet; here a poll frees 64 SKBs, and the 32 made last lie in the "
        "core's own slab. There the cache was merged with others of its size. Where others hold one object of each "
        "slab, which nobody published, nearly every free is slow here, too: the rows whose ways end in _shared save "
        "more than the first test did. What the second test, with a later kernel, gained beyond that is not known"
    ),
    "forward.reuse.saved": (
        "The published patch fetched 8 sk_buffs at a time and gave back what it did not use at the end of each "
        "softirq; here it is the cache of Linux 5.13, which keeps 32 and fetches 16. And its author saw stalls on the "
        "walk of the freelist, which are not modelled"
    ),
    "kfree_skb_list.saved": (
        "The slow path makes up 14 of the simulated ns. Its cost is the i7-4790K's, with Linux 4.3 of 2015; the "
        "test ran on Linux 6.1, of which this machine's profile has the fast path and the bulk calls alone"
    ),
    "page_pool.refill.saved": (
        "More than the allocator's own loops have: there single and bulk pages differ by 112 cycles, 31 ns. The first "
        "test was of an early patch; the series that was merged gained 30 ns in the same test"
    ),
}

Ways = dict[str, dict[str, Row]]  #: rows by name, by way


def saved(rows: Sequence[Row]) -> list[Row]:
    """Nanoseconds of a packet that each way saves against the first of its part and profile; and where in forwarding
    they come from."""
    found = []
    for (part, _), ways in _ways(rows).items():
        first = next(iter(ways.values()))
        for each in ways.values():
            found.append(
                Row(each["throughput"].case, "saved_ns", "ns/packet", _nanoseconds(first) - _nanoseconds(each))
            )
        for before, after in BULK_FREE if part == "forward" else ():
            if ways.keys() >= {before, after}:
                found += _where_from(ways[before], ways[after])
    return found


def _where_from(before: Mapping[str, Row], after: Mapping[str, Row]) -> list[Row]:
    """What bulk free saves, and that most of what it saves the slab is the slow path."""
    slow, slab = (_value(before, name) - _value(after, name) for name in ("cycles.slab.free_slow", "slab_cycles"))
    case = after["throughput"].case
    return [
        Row(case, "saved_by_bulk_free", "ns/packet", _nanoseconds(before) - _nanoseconds(after)),
        Row(case, "saved_slow_path", "cycles/packet", slow),
        Row(case, "saved_slab", "cycles/packet", slab),
        Row(case, "slow_path_is_most", "bool", 2 * slow > slab > 0, True, SLOW_PATH_SOURCE, "check"),
    ]


def compared(rows: Sequence[Row]) -> list[Row]:
    """Rows beside published figures, each under the figure's name."""
    ways = _ways(rows)
    found = _loops(rows)
    for part, profile, way, identity in THROUGHPUT:
        each = ways.get((part, profile), {}).get(way)
        if each is not None:
            row = each["throughput"]
            found.append(predicted(row.case, identity, row.unit, row.value, identity))
    for part, profile, before, after, identity in SAVED:
        both = ways.get((part, profile), {})
        if both.keys() >= {before, after}:
            slow, fast = _nanoseconds(both[before]), _nanoseconds(both[after])
            percent = figure(identity).unit == "percent"
            value, unit = (100 * (slow / fast - 1), "%") if percent else (slow - fast, "ns/packet")
            found.append(predicted(both[after]["throughput"].case, identity, unit, value, identity))
    return found


def _loops(rows: Sequence[Row]) -> list[Row]:
    found = []
    for row in rows:
        case = row.case
        if row.name != "cycles" or case["part"] not in FIGURES:
            continue
        name = f"{FIGURES[case['part']]}.{case['way']}"
        shown = case, name, row.unit, row.value
        if key := GIVEN.get((case["part"], case["way"], case["bulk"])):
            found.append(given(*shown, case["profile"], key))
        if f"{name}.{case['bulk']}" in published():
            found.append(predicted(*shown, f"{name}.{case['bulk']}"))
    return found


def _ways(rows: Sequence[Row]) -> dict[tuple[str, str], Ways]:
    """Rows of what was run on the machine, by part and profile."""
    found: dict[tuple[str, str], Ways] = {}
    for row in rows:
        if "bulk" not in row.case:
            group = found.setdefault((row.case["part"], row.case["profile"]), {})
            group.setdefault(row.case["way"], {})[row.name] = row
    return found


def _nanoseconds(rows: Mapping[str, Row]) -> Any:
    """Of a packet."""
    return 1000 / _value(rows, "throughput")


def _value(rows: Mapping[str, Row], name: str) -> Any:
    """Of a row; 0 where there is none."""
    return rows[name].value if name in rows else 0
