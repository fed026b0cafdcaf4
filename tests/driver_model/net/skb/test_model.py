# SPDX-License-Identifier: BSD-2-Clause
"""SKBs against a model that is nothing but bytes: whatever is done to one, it and its clones have the right ones, and
in the end everything is given back."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule, run_state_machine_as_test

from driver_model.net.skb.edit import (
    pskb_expand_head,
    pskb_may_pull,
    pskb_trim,
    skb_cow_head,
    skb_ensure_writable,
    skb_try_coalesce,
)
from driver_model.net.skb.policy import HeadMemory, Place, SkbPolicy
from driver_model.net.skb.sk_buff import SkBuff, skb_pull, skb_push, skb_put, skb_store
from tests.driver_model.net.skb.skb_kit import SkbKit

POLICIES = [
    SkbPolicy(),
    SkbPolicy(head_memory=HeadMemory.FRAGMENT),
    SkbPolicy(place=Place.HEADROOM),
    SkbPolicy(place=Place.TAILROOM),
    SkbPolicy(bulk_heads=True),
]
SEQUENCES, CALLS = 200, 50
DATA = st.binary(min_size=1, max_size=40)


class SkbMachine(RuleBasedStateMachine):
    """``bytes`` has what each SKB should consist of."""

    skbs = Bundle("skbs")

    @initialize(policy=st.sampled_from(POLICIES))
    def start(self, policy: SkbPolicy) -> None:
        self.kit = SkbKit(policy)
        self.bytes: dict[SkBuff, bytes] = {}

    @rule(target=skbs, data=DATA, recycles=st.booleans())
    def received(self, data: bytes, recycles: bool) -> SkBuff:
        return self._new(self.kit.received(data, recycles=recycles), data)

    @rule(target=skbs, data=st.binary(max_size=40), frags=st.lists(DATA, max_size=6), recycles=st.booleans())
    def copied(self, data: bytes, frags: list[bytes], recycles: bool) -> SkBuff:
        return self._new(self.kit.copied(data, frags, recycles=recycles), data + b"".join(frags))

    @rule(target=skbs, skb=skbs)
    def clone(self, skb: SkBuff) -> SkBuff:
        clone = self.kit.skbs.skb_clone(skb)
        assert clone is not None
        return self._new(clone, self.bytes[skb])

    @rule(skb=skbs, length=st.integers(0, 100))
    def pull_together(self, skb: SkBuff, length: int) -> None:
        assert pskb_may_pull(self.kit.skbs, skb, length) is (length <= skb.len)
        self._look(skb)

    @rule(skb=skbs, length=st.integers(0, 100))
    def take_off(self, skb: SkBuff, length: int) -> None:
        length = min(length, skb.headlen)
        skb_pull(skb, length)
        self.bytes[skb] = self.bytes[skb][length:]
        self._look(skb)

    @rule(skb=skbs, data=DATA)
    def put_before(self, skb: SkBuff, data: bytes) -> None:
        assert skb_cow_head(self.kit.skbs, skb, len(data))
        skb_push(skb, len(data))
        skb_store(self.kit.core, skb, 0, data)
        self.bytes[skb] = data + self.bytes[skb]
        self._look(skb)

    @rule(skb=skbs, data=DATA)
    def put_behind(self, skb: SkBuff, data: bytes) -> None:
        if skb.writable and skb.tailroom >= len(data):
            self.kit.core.store_owned(skb_put(skb, len(data)), data)
            self.bytes[skb] += data
            self._look(skb)

    @rule(skb=skbs, data=DATA)
    def write(self, skb: SkBuff, data: bytes) -> None:
        if skb_ensure_writable(self.kit.skbs, skb, len(data)):
            skb_store(self.kit.core, skb, 0, data)
            self.bytes[skb] = data + self.bytes[skb][len(data) :]
        self._look(skb)

    @rule(skb=skbs, length=st.integers(0, 200))
    def cut(self, skb: SkBuff, length: int) -> None:
        length = min(length, skb.len)
        assert pskb_trim(self.kit.skbs, skb, length)
        self.bytes[skb] = self.bytes[skb][:length]
        self._look(skb)

    @rule(skb=skbs, headroom=st.integers(0, 100), tailroom=st.integers(0, 100))
    def move(self, skb: SkBuff, headroom: int, tailroom: int) -> None:
        assert pskb_expand_head(self.kit.skbs, skb, headroom, tailroom)
        assert skb.headroom == headroom
        assert skb.writable
        self._look(skb)

    @rule(target=skbs, pair=st.tuples(consumes(skbs), consumes(skbs)))
    def join(self, pair: tuple[SkBuff, SkBuff]) -> SkBuff:
        target, source = pair
        if target is source:
            return target
        truesize = target.truesize
        added = skb_try_coalesce(self.kit.skbs, self.kit.freeing, target, source)
        if added is None:
            self._free(source)
        else:
            assert target.truesize == truesize + added
            self.bytes[target] += self.bytes.pop(source)
        self._look(target)
        return target

    @rule(skb=consumes(skbs))
    def free(self, skb: SkBuff) -> None:
        self._free(skb)

    def teardown(self) -> None:
        if hasattr(self, "kit"):
            for skb in list(self.bytes):
                self._free(skb)
            self.kit.finish()

    def _new(self, skb: SkBuff, data: bytes) -> SkBuff:
        self.bytes[skb] = data
        self._look(skb)
        return skb

    def _free(self, skb: SkBuff) -> None:
        if self.bytes.pop(skb, None) is not None:
            self.kit.freeing.consume_skb(skb)

    def _look(self, changed: SkBuff) -> None:
        assert changed.start <= changed.data <= changed.tail <= changed.end
        for skb, data in self.bytes.items():
            assert skb.len == len(data)
            assert self.kit.bytes(skb) == data
        for skb in self.kit.host.live_skbs:
            assert self.kit.host.skb_checker is not None
            self.kit.host.skb_checker.check(skb)


def test_skbs_against_bytes() -> None:
    """The same sequences each time: ``derandomize`` takes the seed from the test itself."""
    run_state_machine_as_test(
        SkbMachine,
        settings=settings(
            max_examples=SEQUENCES, stateful_step_count=CALLS, deadline=None, derandomize=True, database=None
        ),
    )
