# SPDX-License-Identifier: BSD-2-Clause
"""The golden model does what the specification says, one rule at a time: directory, contexts, types of requests."""

import pytest

from tests.golden.model import (
    DPE,
    DTF,
    EN_ATS,
    EN_PRI,
    GADE,
    PDTV,
    PRPR,
    SADE,
    SBE,
    SXL,
    T2GPA,
    VALID,
    Access,
    AddressType,
    Capabilities,
    DirectoryMode,
    Iommu,
    Request,
)
from tests.golden.paging import PTE_A, PTE_D, PTE_W, SV39, SV48
from tests.golden.tables import LEAF, Context, Tables, table_entry

DEVICE = 0x020301  #: an index other than 0 at each level of the directory


class World:
    """One device behind a directory of three levels, or as told."""

    def __init__(self, context=None, *, mode=DirectoryMode.LVL3, device=DEVICE, **capabilities):
        self.tables = Tables.empty()
        self.root = self.tables.take()
        self.mode = mode
        self.device = device
        self.path = []
        if mode >= DirectoryMode.LVL1:
            self.path = self.tables.put_context(mode, self.root, device, context or Context())
        self.capabilities = Capabilities(**capabilities)

    def translate(self, iova=0x1234, access=Access.READ, **fields):
        iommu = Iommu(self.tables.memory, self.mode, self.root, self.capabilities)
        return iommu.translate(Request(fields.pop("device_id", self.device), iova, access, **fields))

    def cause(self, *arguments, **fields):
        record = self.translate(*arguments, **fields).record
        return None if record is None else record.cause


def test_off_refuses_everything():
    world = World(mode=DirectoryMode.OFF)
    for kind in AddressType:
        assert world.cause(access=Access.WRITE, address_type=kind) == 256
    assert world.cause(address_type=AddressType.PREFETCH) is None


def test_bare_passes_untranslated_requests_only():
    world = World(mode=DirectoryMode.BARE)
    assert world.translate(0x12345678).address == 0x12345678
    assert world.translate(process_id=5).address == 0x1234
    for kind in set(AddressType) - {AddressType.UNTRANSLATED}:
        assert world.cause(access=Access.WRITE, address_type=kind) == 260
    assert world.cause(address_type=AddressType.TRANSLATION_REQUEST) == 260
    assert world.cause(address_type=AddressType.PREFETCH) is None


@pytest.mark.parametrize(
    ("mode", "device", "reads"),
    [
        (DirectoryMode.LVL1, 0x00007F, [32]),
        (DirectoryMode.LVL2, 0x00FFFF, [8, 32]),
        (DirectoryMode.LVL3, 0xFFFFFF, [8, 8, 32]),
    ],
)
def test_widest_device_of_each_directory_and_its_reads(mode, device, reads):
    world = World(mode=mode, device=device)
    result = world.translate()
    assert result.address == 0x1234
    assert [fetch.length for fetch in result.fetches] == reads
    if device + 1 < 1 << 24:
        assert world.cause(device_id=device + 1) == 260
        assert world.translate(device_id=device + 1).fetches == []


def test_a_device_too_wide_is_reported_whatever_dtf_says():
    world = World(Context.of(tc=DTF), mode=DirectoryMode.LVL1, device=1)
    assert world.translate(device_id=1 << 7).reported


@pytest.mark.parametrize("level", [0, 1])
def test_directory_entries(level):
    world = World()
    good = world.tables.read(world.path[level])
    for bad, cause in ((good & ~VALID, 258), (good | 2, 259), (good | 1 << 9, 259), (good | 1 << 63, 259)):
        world.tables.write(world.path[level], bad)
        assert world.cause() == cause
    world.tables.write(world.path[level], table_entry(1 << 40, VALID))
    assert world.cause() == 257


def test_invalid_context_may_hold_anything():
    world = World(Context((1 << 64) - 2, *[(1 << 64) - 1] * 3))
    assert world.cause() == 258


@pytest.mark.parametrize(
    "context",
    [
        *(Context(VALID | bit) for bit in (EN_PRI, PRPR, T2GPA, PDTV, DPE, SBE, SXL, 1 << 12, 1 << 23, 1 << 32)),
        Context(VALID | EN_ATS | EN_PRI),
        Context(VALID | 1 << 63),
        Context(ta=1),
        Context(ta=1 << 11),
        Context(ta=1 << 32),
        Context(ta=1 << 63),
        Context(fsc=1 << 44),
        Context(fsc=SV39 << 60 | 1 << 59),
        *(Context(fsc=mode << 60) for mode in (1, 7, 10, 11, 14, 15)),
        *(Context(iohgatp=mode << 60) for mode in (1, 7, 10, 15)),
        Context(iohgatp=SV39 << 60 | 1),
        Context(iohgatp=SV48 << 60 | 2),
    ],
)
def test_misconfigured_contexts(context):
    assert World(context).cause() == 259


@pytest.mark.parametrize("bit", [24, 31])
def test_bits_for_custom_use_are_not_reserved(bit):
    assert World(Context(VALID | 1 << bit)).cause() is None


def test_root_of_a_bare_second_stage_is_ignored():
    assert World(Context(iohgatp=0x0FFF_FFFF_FFFF_FFFF)).cause() is None


@pytest.mark.parametrize(
    ("context", "capability"),
    [
        (Context(VALID | EN_ATS), "ats"),
        (Context(VALID | SADE), "amo_hwad"),
        (Context(VALID | GADE), "amo_hwad"),
        (Context(fsc=SV48 << 60), "sv48"),
        (Context(iohgatp=SV48 << 60), "sv48x4"),
    ],
)
def test_contexts_that_need_a_capability(context, capability):
    assert World(context).cause() != 259
    assert World(context, **{capability: False}).cause() == 259


def test_types_of_requests():
    plain, ats = World(Context()), World(Context(VALID | EN_ATS))
    for kind in (AddressType.TRANSLATION_REQUEST, AddressType.PREFETCH):
        for world in (plain, ats):
            assert world.cause(0x5678, Access.WRITE, address_type=kind) == 260
    assert plain.cause(address_type=AddressType.TRANSLATION_REQUEST) == 260
    told = ats.translate(0x5678, address_type=AddressType.TRANSLATION_REQUEST)
    assert (told.address, told.writable) == (0x5678, True)
    nothing = plain.translate(0x5678, address_type=AddressType.PREFETCH)
    assert (nothing.address, nothing.record) == (None, None)
    assert plain.cause(address_type=AddressType.TRANSLATED) == 260
    assert ats.translate(0x5678, address_type=AddressType.TRANSLATED).address == 0x5678
    assert ats.cause(address_type=AddressType.TRANSLATED, process_id=0) == 260
    assert plain.cause(process_id=7) == 260


@pytest.mark.parametrize(
    ("kind", "access", "transaction_type"),
    [
        (AddressType.UNTRANSLATED, Access.EXECUTE, 1),
        (AddressType.UNTRANSLATED, Access.READ, 2),
        (AddressType.UNTRANSLATED, Access.WRITE, 3),
        (AddressType.TRANSLATED, Access.EXECUTE, 5),
        (AddressType.TRANSLATED, Access.READ, 6),
        (AddressType.TRANSLATED, Access.WRITE, 7),
        (AddressType.TRANSLATION_REQUEST, Access.READ, 8),
    ],
)
def test_fault_record(kind, access, transaction_type):
    record = World().translate(0xABC, access, address_type=kind, process_id=0xF00F, privileged=True).record
    assert record is not None
    assert (record.cause, record.transaction_type, record.device_id) == (260, transaction_type, DEVICE)
    assert (record.process_id, record.privileged, record.iotval, record.iotval2) == (0xF00F, True, 0xABC, 0)


def test_privilege_needs_a_process():
    record = World(mode=DirectoryMode.OFF).translate(privileged=True).record
    assert record is not None
    assert not record.privileged


def test_dtf_hides_faults_of_translation_only():
    hidden = World(Context.of(tc=DTF, first=(SV39, 50)))
    assert hidden.cause() == 13
    assert not hidden.translate().reported
    assert not hidden.translate(process_id=1).reported
    wrong = World(Context(VALID | DTF | SBE))
    assert wrong.cause() == 259
    assert wrong.translate().reported


@pytest.mark.parametrize(
    ("access", "cause"), [(Access.READ, 5), (Access.WRITE, 7), (Access.EXECUTE, 1)], ids=lambda value: str(value)
)
def test_no_memory_beyond_the_physical_width(access, cause):
    for mode in (DirectoryMode.BARE, DirectoryMode.LVL2):
        world = World(mode=mode, device=3, physical_bits=40)
        assert world.translate((1 << 40) - 1, access).address == (1 << 40) - 1
        assert world.cause(1 << 40, access) == cause
    ats = World(Context(VALID | EN_ATS), physical_bits=40)
    assert ats.cause(1 << 40, access, address_type=AddressType.TRANSLATED) == cause


@pytest.mark.parametrize("update", [0, SADE])
@pytest.mark.parametrize("no_write", [0, 1])
def test_what_a_translation_request_is_told(update, no_write):
    """By the leaf's flags: whether there is an answer, whether it lets write, and what the leaf has then."""
    kind = AddressType.TRANSLATION_REQUEST
    dirty = 0 if no_write else PTE_D
    cases = (
        (LEAF, True, True, LEAF),
        (LEAF & ~PTE_D, True, bool(update and dirty), LEAF & ~PTE_D | (dirty if update else 0)),
        (LEAF & ~PTE_W & ~PTE_D, True, False, LEAF & ~PTE_W & ~PTE_D),
        (LEAF & ~PTE_A, bool(update), bool(update), LEAF if update else LEAF & ~PTE_A),
        (0, False, False, 0),
    )
    for flags, found, writable, after in cases:
        world = World(Context.of(tc=EN_ATS | update, first=(SV39, 50)))
        world.tables.map(SV39, 50, 0x5000, 0x77, flags=flags)
        told = world.translate(0x5000 | no_write, address_type=kind)
        assert told.record is None
        assert (told.address, told.writable) == ((0x77000 | no_write) if found else None, writable)
        assert world.tables.find(SV39, 50, 0x5000, level=0) & 0xFF == after
