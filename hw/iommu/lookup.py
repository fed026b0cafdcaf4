# SPDX-License-Identifier: BSD-2-Clause
"""From a request to its physical page, or to the walk that will find it."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import NO_WRITE, PAGE_SHIFT, DirectoryMode, FirstMode, SecondMode
from hw.abi.rings import AddressType, Sideband
from hw.config import IommuConfig
from hw.iommu.interfaces import (
    Access,
    ClaimSignature,
    ContextLookup,
    Directory,
    LookupEvent,
    Outcome,
    PageSize,
    Space,
    TranslationSignature,
    WalkSignature,
    size_mask,
)
from hw.iommu.tlb import TlbLookup


class _Request(data.Struct):
    """A request on its way."""

    made: 1
    first: 1
    prefetch: 1
    requester: Sideband
    address: 64
    access: Access
    crosses: 1


class Lookup(wiring.Component):
    """One channel's way through the caches: takes a request every cycle and answers it three cycles later.

    The request's context and leaf are looked up together; the context says whether addresses pass as they are, and in
    whose space the leaf must be. Only what is certain and allowed is a HIT:

    - ddtp says Bare, or the context has no stage: the address itself;
    - a translated address, where the context has EN_ATS: the address itself;
    - otherwise a leaf in the IOTLB with the permission that the access needs, for a burst within its page.

    All else, also whatever ends in a fault, is asked of the walk table in the cycle of the answer.

    A read of type TRANSLATION_REQUEST is looked up as an untranslated one that may write as well (with
    :data:`hw.abi.iommu.NO_WRITE` one that only reads), where the context has EN_ATS; one of type PREFETCH as the
    untranslated write (or read) that it announces, so that this one joins its walk.

    Ports
    -----
    channel : In, :class:`hw.iommu.interfaces.TranslationSignature`
    directory : In, :class:`hw.iommu.interfaces.Directory`
    context : Out, :class:`hw.iommu.interfaces.ContextLookup`
    tlb : Out, :class:`hw.iommu.tlb.TlbLookup`
    walk : Out, :class:`hw.iommu.interfaces.WalkSignature`
    claim : Out, :class:`hw.iommu.interfaces.ClaimSignature`
        The channel's own, passed on.
    event : Out, :class:`hw.iommu.interfaces.LookupEvent`
        In the cycle of the answer to a request that is not another try.
    """

    def __init__(self, config: IommuConfig):
        self._config = config
        super().__init__(
            {
                "channel": In(TranslationSignature(config)),
                "directory": In(Directory),
                "context": Out(ContextLookup()),
                "tlb": Out(TlbLookup()),
                "walk": Out(WalkSignature(config)),
                "claim": Out(ClaimSignature(config)),
                "event": Out(LookupEvent),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        channel, config = self.channel, self._config

        looking, comparing, answering = (Signal(_Request, name=name) for name in ("looking", "comparing", "answering"))
        m.d.sync += [
            looking.made.eq(channel.request),
            looking.first.eq(channel.first),
            looking.requester.eq(channel.requester),
            looking.address.eq(channel.address),
            looking.access.eq(channel.access),
            looking.crosses.eq(channel.crosses),
            comparing.eq(looking),
            answering.eq(comparing),
        ]
        kind, reads, no_write = (
            looking.requester.address_type,
            looking.access == Access.READ,
            looking.address[NO_WRITE],
        )
        prefetch, translates = Signal(), Signal()
        m.d.comb += [
            prefetch.eq(reads & (kind == AddressType.PREFETCH)),
            translates.eq(reads & (kind == AddressType.TRANSLATION_REQUEST)),
        ]
        with m.If(prefetch):
            m.d.sync += [
                comparing.prefetch.eq(1),
                comparing.requester.address_type.eq(AddressType.UNTRANSLATED),
                comparing.access.eq(Mux(no_write, Access.READ, Access.WRITE)),
            ]
        with m.Elif(translates):
            m.d.sync += comparing.access.eq(Mux(no_write, Access.READ, Access.TRANSLATE))

        # The address itself, or a leaf: decided as soon as the context is there.
        context = self.context.context
        mode = self.directory.mode
        identity, leaf = Signal(), Signal()
        enabled, plain, untranslated, bare = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.context.device_id.eq(channel.requester.device_id),
            enabled.eq((mode != DirectoryMode.OFF) & (mode != DirectoryMode.BARE) & self.context.hit),
            plain.eq(~looking.requester.process_id_valid & (looking.access != Access.EXECUTE)),
            untranslated.eq((kind == AddressType.UNTRANSLATED) | prefetch),
            bare.eq((context.first_mode == FirstMode.BARE) & (context.second_mode == SecondMode.BARE)),
            leaf.eq(enabled & plain & (untranslated | (translates & context.enable_ats)) & ~bare & ~looking.crosses),
        ]
        with m.If(~looking.address[config.physical_bits :].any() & plain):
            with m.If(untranslated):
                m.d.comb += identity.eq((mode == DirectoryMode.BARE) | (enabled & bare))
            with m.Elif(kind == AddressType.TRANSLATED):
                m.d.comb += identity.eq(enabled & context.enable_ats)
            with m.Elif(translates):
                m.d.comb += identity.eq(enabled & context.enable_ats & bare)
        identities, leaves = Signal(2), Signal(2)
        m.d.sync += [identities.eq(Cat(identity, identities)), leaves.eq(Cat(leaf, leaves))]

        page = answering.address[PAGE_SHIFT:]
        found = self.tlb.translation
        needs_write = (answering.access == Access.WRITE) | (answering.access == Access.TRANSLATE)
        allowed = Mux(needs_write, found.writable, found.readable)
        hit = Signal()
        m.d.comb += [
            self.tlb.strobe.eq(channel.request),
            self.tlb.page.eq(channel.address[PAGE_SHIFT:]),
            self.tlb.space.eq(context.space),
            hit.eq(identities[1] | (leaves[1] & self.tlb.hit & allowed)),
            channel.answered.eq(answering.made),
            channel.answer.ppn.eq(Mux(identities[1], page, found.ppn | (page & size_mask(self.tlb.size)))),
            channel.answer.size.eq(Mux(identities[1], PageSize.SIZE_1G, self.tlb.size)),
            channel.answer.writable.eq(identities[1] | found.writable),
            channel.answer.walk.eq(self.walk.walk),
            channel.answer.outcome.eq(Mux(hit, Outcome.HIT, Mux(self.walk.taken, Outcome.WALK, Outcome.RETRY))),
            self.walk.request.eq(answering.made & ~hit & ~channel.hold),
            self.walk.prefetch.eq(answering.prefetch),
            self.walk.wanted.requester.eq(answering.requester),
            self.walk.wanted.page.eq(page),
            self.walk.wanted.access.eq(answering.access),
            self.walk.wanted.crosses.eq(answering.crosses),
        ]

        m.d.comb += [
            channel.finished.eq(self.claim.finished),
            self.claim.look.eq(channel.look),
            channel.result.eq(self.claim.result),
            self.claim.release.eq(channel.release),
        ]

        spaces = [Signal(Space, name=f"space_{stage}") for stage in ("comparing", "answering")]
        with m.If(enabled):
            m.d.sync += spaces[0].eq(context.space)
        with m.Else():
            m.d.sync += spaces[0].eq(0)
        m.d.sync += spaces[1].eq(spaces[0])
        m.d.comb += [
            self.event.strobe.eq(answering.made & answering.first),
            self.event.miss.eq(~hit),
            self.event.dropped.eq(answering.prefetch & ~hit & ~self.walk.taken),
            self.event.requester.eq(answering.requester),
            self.event.space.eq(spaces[1]),
        ]
        with m.If(answering.prefetch):
            m.d.comb += self.event.requester.address_type.eq(AddressType.PREFETCH)
        return m
