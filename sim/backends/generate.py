# SPDX-License-Identifier: BSD-2-Clause
"""``python -m sim.backends.generate FOLDER``: a folder's pickled design as Verilog, with a list of its storages."""

import json
import pickle
import sys
from pathlib import Path

from amaranth import ClockSignal, Const, Instance, Module, ResetSignal
from amaranth.back import verilog

from sim.backends.base import Design
from sim.host.storage import EXCHANGE_BITS, Storage, StoragePlatform

MACHINE = "pagewheel_machine"


class VerilogPlatform(StoragePlatform):
    """Storages become instances of :file:`storage.sv`."""

    def primitive(self, storage: Storage, number: int) -> Module:
        port = storage.port
        m = Module()
        exchange = {
            "i_write_exchange": port.write_exchange if storage.exchange else Const(0),
            "i_write_expected": port.write_expected if storage.exchange else Const(0, EXCHANGE_BITS),
        }
        if storage.exchange:
            exchange["o_write_exchanged"] = port.write_exchanged
        m.submodules.primitive = Instance(
            "pagewheel_storage",
            p_NUMBER=number,
            p_WIDTH=storage.width,
            i_clk=ClockSignal(),
            i_rst=ResetSignal(),
            i_read_enable=port.read_enable,
            i_read_address=port.read_address,
            o_read_data=port.read_data,
            i_write_enable=port.write_enable,
            i_write_address=port.write_address,
            i_write_data=port.write_data,
            i_write_strobe=port.write_strobe,
            **exchange,
        )
        return m


def generate(design: Design, folder: Path) -> None:
    """Write :file:`machine.v` and :file:`storages.json`."""
    platform = VerilogPlatform()
    text = verilog.convert(
        design.build(), name=MACHINE, platform=platform, ports=(), emit_src=False, strip_internal_attrs=True
    )
    storages = [{"name": each.name, "size": each.size, "width": each.width} for each in platform.storages]
    (folder / "machine.v").write_text(text)
    (folder / "storages.json").write_text(json.dumps(storages, indent=1) + "\n")


if __name__ == "__main__":
    generate(pickle.loads((Path(sys.argv[1]) / "design.pickle").read_bytes()), Path(sys.argv[1]))
