# SPDX-License-Identifier: BSD-2-Clause
"""A device that plays a script of accesses at full speed, and a memory that only tells which addresses came to it."""

from typing import Any

from amaranth import Array, Cat, Const, Module, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import Sideband
from hw.bus.axi4 import AXI4Signature, Response
from hw.bus.axi_lite import AXILiteSignature
from sim.host.storage import StoragePort

IDS = 16
ROWS = 2048  #: of script and results
ROW_BYTES = 32  #: of the script
RESULT_BYTES = 16
BEAT_SIZE = 3  #: log2 of bytes in a beat


class Operation(enum.Enum, shape=3):
    """What a row of the script says."""

    NONE = 0  #: wait until it says something
    READ = 1
    WRITE = 2
    READ_REGISTER = 3  #: until no bit of ``data`` is set in what was read
    WRITE_REGISTER = 4
    HALT = 5  #: and begin again with the first row


class Row(data.Struct):
    """A row of the script."""

    address: 64
    data: 64
    user: Sideband
    user_rest: 64 - 47
    operation: Operation
    alone: 1  #: begin only when everything before is answered; registers and HALT always do
    strobe: 8
    rest: 52


class Player(wiring.Component):
    """Plays the script's rows one after the other, one 64-bit beat each; writes an outcome for each READ, WRITE,
    READ_REGISTER and HALT to the row of the same number. A WRITE's data is its row's number.

    An outcome is 64 bits of data, the response in the next 2, and a 1 in bit 127.

    Ports
    -----
    script, results : storage
    device : accesses; IDs are never used twice at a time
    registers : register accesses
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "script": Out(StoragePort(ROW_BYTES * 8)),
                "results": Out(StoragePort(RESULT_BYTES * 8)),
                "written": Out(StoragePort(RESULT_BYTES * 8)),
                "device": Out(AXI4Signature(64)),
                "registers": Out(AXILiteSignature(12)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        row, number, next_id = Signal(Row), Signal(range(ROWS)), Signal(range(IDS))
        reading, writing = Signal(IDS), Signal(IDS)
        read_rows = Array(Signal(range(ROWS), name=f"read_row_{index}") for index in range(IDS))
        write_rows = Array(Signal(range(ROWS), name=f"write_row_{index}") for index in range(IDS))
        idle = Signal()
        addressed, given = Signal(), Signal()  # a write's two channels
        value, response = Signal(64), Signal(Response)
        # Each in one piece: Verilator never runs a process that only sets some constant bits of a signal.
        m.d.comb += [
            self.results.write_data.eq(Cat(value, response, Const(0, 61), Const(1, 1))),
            self.written.write_data.eq(Cat(Const(0, 64), self.device.b.payload.resp, Const(0, 61), Const(1, 1))),
        ]
        m.d.comb += [
            idle.eq((reading == 0) & (writing == 0)),
            self.script.read_address.eq(number * ROW_BYTES),
            self.results.write_strobe.eq(~0),
            self.written.write_strobe.eq(~0),
            self.device.r.ready.eq(1),
            self.device.b.ready.eq(1),
        ]
        for channel in (self.device.ar, self.device.aw):
            payload = channel.payload
            m.d.comb += [
                payload.id.eq(next_id),
                payload.addr.eq(row.address),
                payload.size.eq(BEAT_SIZE),
                payload.user.eq(row.user),
            ]
        m.d.comb += [
            self.device.w.payload.data.eq(number),
            self.device.w.payload.strb.eq(~0),
            self.device.w.payload.last.eq(1),
            self.registers.ar.payload.addr.eq(row.address),
            self.registers.aw.payload.addr.eq(row.address),
            self.registers.w.payload.data.eq(row.data),
            self.registers.w.payload.strb.eq(row.strobe),
        ]

        def go_on() -> None:
            m.d.sync += number.eq(number + 1)
            m.next = "fetch"

        with m.FSM():
            with m.State("fetch"):
                m.d.comb += self.script.read_enable.eq(1)
                m.next = "decide"
            with m.State("decide"):
                fetched = data.View(Row, self.script.read_data)
                m.d.sync += [row.eq(fetched), addressed.eq(0), given.eq(0)]
                with m.Switch(fetched.operation):
                    with m.Case(Operation.READ):
                        with m.If(~(reading | writing).bit_select(next_id, 1) & (idle | ~fetched.alone)):
                            m.next = "read"
                    with m.Case(Operation.WRITE):
                        with m.If(~(reading | writing).bit_select(next_id, 1) & (idle | ~fetched.alone)):
                            m.next = "write"
                    with m.Case(Operation.READ_REGISTER):
                        with m.If(idle):
                            m.next = "read register"
                    with m.Case(Operation.WRITE_REGISTER):
                        with m.If(idle):
                            m.next = "write register"
                    with m.Case(Operation.HALT):
                        with m.If(idle):
                            m.next = "halt"
                    with m.Default():
                        m.next = "fetch"
            with m.State("read"):
                m.d.comb += self.device.ar.valid.eq(1)
                with m.If(self.device.ar.ready):
                    m.d.sync += [
                        reading.bit_select(next_id, 1).eq(1),
                        read_rows[next_id].eq(number),
                        next_id.eq(next_id + 1),
                    ]
                    go_on()
            with m.State("write"):
                m.d.comb += [self.device.aw.valid.eq(~addressed), self.device.w.valid.eq(~given)]
                m.d.sync += [
                    addressed.eq(addressed | self.device.aw.ready),
                    given.eq(given | self.device.w.ready),
                    writing.bit_select(next_id, 1).eq(1),
                    write_rows[next_id].eq(number),
                ]
                with m.If((addressed | self.device.aw.ready) & (given | self.device.w.ready)):
                    m.d.sync += next_id.eq(next_id + 1)
                    go_on()
            with m.State("read register"):
                m.d.comb += self.registers.ar.valid.eq(1)
                with m.If(self.registers.ar.ready):
                    m.next = "register data"
            with m.State("register data"):
                m.d.comb += self.registers.r.ready.eq(1)
                with m.If(self.registers.r.valid):
                    m.next = "read register"
                    with m.If((self.registers.r.payload.data & row.data) == 0):
                        m.d.comb += [
                            self.results.write_enable.eq(1),
                            self.results.write_address.eq(number * RESULT_BYTES),
                            value.eq(self.registers.r.payload.data),
                            response.eq(self.registers.r.payload.resp),
                        ]
                        go_on()
            with m.State("write register"):
                m.d.comb += [self.registers.aw.valid.eq(~addressed), self.registers.w.valid.eq(~given)]
                m.d.sync += [
                    addressed.eq(addressed | self.registers.aw.ready),
                    given.eq(given | self.registers.w.ready),
                ]
                m.d.comb += self.registers.b.ready.eq(addressed & given)
                with m.If(self.registers.b.ready & self.registers.b.valid):
                    go_on()
            with m.State("halt"):
                m.d.comb += [
                    self.results.write_enable.eq(1),
                    self.results.write_address.eq(number * RESULT_BYTES),
                ]
                m.d.sync += number.eq(0)
                m.next = "pause"
            with m.State("pause"):  # software takes the script away
                m.next = "fetch"

        answer, done = self.device.r, self.device.b
        with m.If(answer.valid):
            m.d.sync += reading.bit_select(answer.payload.id, 1).eq(0)
            m.d.comb += [
                self.results.write_enable.eq(1),
                self.results.write_address.eq(read_rows[answer.payload.id[: IDS.bit_length() - 1]] * RESULT_BYTES),
                value.eq(answer.payload.data),
                response.eq(answer.payload.resp),
            ]
        with m.If(done.valid):
            m.d.sync += writing.bit_select(done.payload.id, 1).eq(0)
            m.d.comb += [
                self.written.write_enable.eq(1),
                self.written.write_address.eq(write_rows[done.payload.id[: IDS.bit_length() - 1]] * RESULT_BYTES),
            ]
        return m


class Echo(wiring.Component):
    """Answers a read with its address, and notes a write's address in the row that its data names.

    Ports
    -----
    axi : single beats
    seen : storage
    """

    def __init__(self) -> None:
        super().__init__({"axi": In(AXI4Signature(64)), "seen": Out(StoragePort(RESULT_BYTES * 8))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        axi = self.axi
        with m.If(axi.r.ready):
            m.d.sync += axi.r.valid.eq(0)
        m.d.comb += axi.ar.ready.eq(axi.r.ready | ~axi.r.valid)
        with m.If(axi.ar.ready & axi.ar.valid):
            m.d.sync += [
                axi.r.valid.eq(1),
                axi.r.payload.id.eq(axi.ar.payload.id),
                axi.r.payload.data.eq(axi.ar.payload.addr),
                axi.r.payload.last.eq(1),
            ]
        with m.If(axi.b.ready):
            m.d.sync += axi.b.valid.eq(0)
        takes = Signal()
        m.d.comb += [
            takes.eq(axi.aw.valid & axi.w.valid & (axi.b.ready | ~axi.b.valid)),
            axi.aw.ready.eq(takes),
            axi.w.ready.eq(takes),
            self.seen.write_enable.eq(takes),
            self.seen.write_address.eq(axi.w.payload.data[: ROWS.bit_length() - 1] * RESULT_BYTES),
            self.seen.write_strobe.eq(~0),
            self.seen.write_data.eq(Cat(axi.aw.payload.addr, Const(0, 63), Const(1, 1))),
        ]
        with m.If(takes):
            m.d.sync += [axi.b.valid.eq(1), axi.b.payload.id.eq(axi.aw.payload.id)]
        return m
