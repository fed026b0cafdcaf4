# SPDX-License-Identifier: BSD-2-Clause
"""XDP programs under a flood, as XDP's authors measured them on a ConnectX-5 (``xdp1``, ``xdp2``, ``xdp_redirect`` and
``xdp_fwd`` of the kernel's samples)."""

from collections.abc import Callable, Mapping

from driver_model.drivers.strategies.base import BufferStrategy
from driver_model.drivers.strategies.page_pool import PagePoolStrategy
from driver_model.net.ip import ETH_HLEN, ETH_P_IP, IPV4_HLEN, address, decrease_ttl, parse
from driver_model.net.xdp import XdpAction, XdpBuff, XdpProgram
from driver_model.net.xdp_redirect import bpf_redirect_back
from tests.driver_model.bench import Bench
from tests.driver_model.calibration.flood import flood
from tests.driver_model.calibration.loop import Replay
from tests.driver_model.calibration.mapping_pool import MappingPool
from tests.driver_model.stack_bench import DEVICE, NEIGHBOUR, mac

MACS = 12  #: bytes of both addresses
ROUTED = address("10.0.0.0") >> 24
REWRITTEN = mac(NEIGHBOUR) + mac(DEVICE) + ETH_P_IP.to_bytes(2)


def drop(xdp: XdpBuff) -> XdpAction:
    return XdpAction.DROP


def send_back(xdp: XdpBuff) -> XdpAction:
    """Addresses are swapped."""
    addresses = xdp.load(0, MACS)
    xdp.store(0, addresses[MACS // 2 :] + addresses[: MACS // 2])
    return XdpAction.TX


def redirect(xdp: XdpBuff) -> XdpAction:
    send_back(xdp)
    return bpf_redirect_back(xdp)


def route(xdp: XdpBuff) -> XdpAction:
    """By a table of one route. ``bpf_fib_lookup`` takes what the stack's own lookup does."""
    packet = xdp.load(0, ETH_HLEN + IPV4_HLEN)[ETH_HLEN:]
    header = parse(packet, xdp.data_end - xdp.data - ETH_HLEN)
    xdp.core.spend(xdp.core.op("net.fib_lookup"))
    if header is None or header.ttl <= 1 or header.destination >> 24 != ROUTED:
        return XdpAction.PASS
    xdp.store(0, REWRITTEN + decrease_ttl(packet))
    return bpf_redirect_back(xdp)


def flooded(run: Callable[[XdpBuff], XdpAction], strategy: type[BufferStrategy] = PagePoolStrategy) -> Replay:
    program = XdpProgram(run.__name__, run)
    return lambda profile: flood(Bench(strategy, program, checked=False, profile=profile)).ps


REPLAYS: Mapping[str, Replay] = {
    "XDP_DROP, one core": flooded(drop),
    "XDP_TX, one core": flooded(send_back),
    "XDP_REDIRECT, one core": flooded(redirect, MappingPool),
    "XDP router, one route, one core": flooded(route, MappingPool),
}
