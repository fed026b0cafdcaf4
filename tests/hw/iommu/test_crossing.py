# SPDX-License-Identifier: BSD-2-Clause
"""Bursts that go beyond 4 KiB, which AXI forbids: a device that sends them reaches no page that it was not given."""

import pytest

from hw.abi.iommu import Cause
from hw.bus.axi4 import Response
from tests.golden.tables import PAGE
from tests.hw.iommu.bench import IommuBench


@pytest.mark.parametrize("warm", [False, True])
def test_a_burst_beyond_its_page_is_refused_whole(warm: bool) -> None:
    """Both pages are the device's, but what lies behind the first in memory is not."""
    bench = IommuBench()
    root = bench.space()
    ppn, behind = bench.tables.take(), bench.tables.take()
    assert behind == ppn + 1
    bench.map(root, 0x5000, ppn)
    bench.map(root, 0x6000)
    end = (ppn + 1) * PAGE

    async def main(b: IommuBench) -> None:
        await b.open()
        b.data[end - 8 : end + PAGE] = b"secret.." * (1 + PAGE // 8)
        if warm:
            for good in (b.read(0x5FF8), b.write(0x5000, bytes(8))):
                await b.finish()
                assert good.response is Response.OKAY
        read, write = b.read(0x5FF0, 3), b.write(0x5FF8, bytes(16))
        after = b.read(0x5FF0, 2)
        await b.finish()
        assert (read.response, read.result) == (Response.SLVERR, bytes(24))
        assert write.response is Response.SLVERR
        assert b.data[end - 8 : end + PAGE] == b"secret.." * (1 + PAGE // 8)
        assert after.response is Response.OKAY
        found = {(record.cause, record.iotval) for record in await b.records(2)}
        assert found == {(Cause.READ_ACCESS.value, 0x5FF0), (Cause.WRITE_ACCESS.value, 0x5FF8)}

    bench.run(main)
