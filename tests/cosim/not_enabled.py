# SPDX-License-Identifier: BSD-2-Clause
"""A NIC that is to carry translations, and whose context does not enable that."""

from typing import Any

from hw.abi.codec import Codec
from hw.abi.iommu import CONTEXT_BYTES, Cause, FaultRecord, TransactionType
from hw.abi.iommu_registers import iommu_registers
from sim.backends.base import Backend
from sim.config import IOMMU_REGISTERS, MachineConfig
from sim.line_rate.job import LineRateRun
from sim.line_rate.run import CARRIED, FORWARD, LEVELS, PHYSICAL, LineRun
from sim.load_tables import DEVICE_ID, PAGE, table_bytes

RECORD = Codec(FaultRecord)
FAULT_ENTRIES = PAGE // RECORD.size
EN_ATS = 1 << 1  #: in a context's first byte
BUFFERS, FRAMES = 32, 200


class NotEnabled(LineRateRun):
    """Forwarding, with a context that does not enable ATS, and a fault queue."""

    def _translate(self) -> None:
        super()._translate()
        run = self._run
        self._memory[run.end + DEVICE_ID * CONTEXT_BYTES] &= ~EN_ATS & 0xFF
        self.faults = -(-(run.end + table_bytes(run.end - PHYSICAL, LEVELS)) // PAGE) * PAGE
        for name, fields in (
            ("fqb", {"log2sz_1": FAULT_ENTRIES.bit_length() - 2, "ppn": self.faults // PAGE}),
            ("fqcsr", {"fqen": 1}),
        ):
            register = iommu_registers()[name]
            self._mailbox.write_register(
                IOMMU_REGISTERS + register.offset, register.pack(**fields), register.width // 8
            )
        register = iommu_registers()["fqcsr"]
        word = self._read(IOMMU_REGISTERS + register.offset // 8 * 8) >> 8 * (register.offset % 8)
        assert register.get(word, "fqon"), "the fault queue is not on"

    def records(self) -> list[list[Any]]:
        """Cause, TTYP and device of each fault."""
        found = []
        for at in range(self.faults, self.faults + PAGE, RECORD.size):
            record = RECORD.unpack(self._memory[at : at + RECORD.size].tobytes())
            if record.cause:
                found.append([Cause(record.cause).name, TransactionType(record.ttyp).name, record.did])
        return found


def forward(backend: Backend, machine: MachineConfig, argument: None) -> dict[str, Any]:
    """Job: forward frames, and tell what software sees of the refusal."""
    line = LineRun(
        direction=FORWARD,
        recycle=True,
        translation=CARRIED,
        pool=BUFFERS,
        ring=BUFFERS,
        size=200,
        frames=FRAMES,
        warm=1,
        page=PAGE,
    )
    line.check(machine)
    run = NotEnabled(backend, machine, line)
    run.measure()
    register = run._registers.port["ats_status"]
    return {
        "refused": register.get(run._read(register.offset), "refused"),
        "sent": run._sent,
        "records": run.records(),
    }
