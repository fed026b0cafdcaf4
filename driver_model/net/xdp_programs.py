# SPDX-License-Identifier: BSD-2-Clause
"""XDP programs by name: the built-in ones give every frame the same verdict, and one's own do what they like."""

from types import MappingProxyType

from driver_model.net.xdp import XdpAction, XdpProgram
from driver_model.net.xdp_redirect import bpf_redirect_back
from driver_model.own import is_own, load_own


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
    """A built-in program, :data:`NO_PROGRAM` by its name, or one's own: ``FILE.py:NAME`` names an :class:`XdpProgram`,
    or a function that takes an ``XdpBuff`` and returns an ``XdpAction``."""
    if is_own(name):
        found = load_own(name)
        if isinstance(found, XdpProgram):
            return found
        if isinstance(found, type) or not callable(found):
            raise ValueError(f"{name!r} must be an XdpProgram or a function, not {found!r}")
        return XdpProgram(name, found)
    if name == NO_PROGRAM.name:
        return NO_PROGRAM
    if name not in PROGRAMS:
        known = ", ".join((*PROGRAMS, NO_PROGRAM.name))
        raise ValueError(f"XDP program must be one of {known}, or FILE.py:NAME, not {name!r}")
    return PROGRAMS[name]
