# SPDX-License-Identifier: BSD-2-Clause
"""Built-in XDP programs: each gives every frame the same verdict."""

from types import MappingProxyType

from driver_model.net.xdp import XdpAction, XdpProgram
from driver_model.net.xdp_redirect import bpf_redirect_back


def _always(action: XdpAction) -> XdpProgram:
    return XdpProgram(action.name.lower(), lambda xdp: action, single_buffer=False)


PROGRAMS = MappingProxyType(
    {
        **{
            name: _always(action)
            for name, action in (("drop", XdpAction.DROP), ("tx", XdpAction.TX), ("pass", XdpAction.PASS))
        },
        "redirect": XdpProgram("redirect", bpf_redirect_back),
    }
)

NO_PROGRAM = XdpProgram("none", lambda xdp: XdpAction.PASS, operation="xdp.none", single_buffer=False)  #: is attached


def program(name: str) -> XdpProgram:
    """A built-in program."""
    if name not in PROGRAMS:
        raise ValueError(f"XDP program must be one of {', '.join(PROGRAMS)}, not {name!r}")
    return PROGRAMS[name]
