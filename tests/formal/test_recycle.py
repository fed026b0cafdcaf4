# SPDX-License-Identifier: BSD-2-Clause
"""The proof of the recycle FIFO fails where that is wrong. Whether it holds is for ``python -m tests.formal``."""

import pytest

import tests.formal.__main__ as formal
from hw.config import NicConfig
from hw.nic.recycle import recycle_fifo
from hw.nic.recycle.tracker import Tracker
from tests.formal.recycle import RecycleProof


class ForgetfulTracker(Tracker):
    """Does not tell an operation of those right before it."""

    def _prepare(self, m, taken, read, known, changes):
        super()._prepare(m, taken, read, known, changes)
        m.d.sync += read.same.eq(0)


class HastyProof(RecycleProof):
    """Of a recycle FIFO that takes what is unused while it pushes what was granted."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += self.unused.ready.eq(~self.returned.strobe)
        return m


@pytest.mark.parametrize(
    ("tracker", "proof"),
    [(ForgetfulTracker, RecycleProof), (Tracker, HastyProof)],
    ids=["claims of consecutive cycles", "two pushes at once"],
)
def test_a_wrong_recycle_fifo_is_not_proven(tracker, proof, monkeypatch, tmp_path):
    monkeypatch.setattr(recycle_fifo, "Tracker", tracker)
    monkeypatch.setattr(formal, "FOLDER", tmp_path)
    config = NicConfig(pools=1, pool_buffers=16)
    monkeypatch.setitem(formal.PROOFS, "wrong", formal.Proof(lambda: proof(config), depth=1))
    assert not formal.prove("wrong")
    assert "failed assertion" in (tmp_path / "wrong" / "logfile.txt").read_text()
