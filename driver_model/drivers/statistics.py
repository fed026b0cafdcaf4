# SPDX-License-Identifier: BSD-2-Clause
"""What a queue of the driver counts."""

from dataclasses import asdict, dataclass

from driver_model.drivers.metadata import Checksum, RxMetadata


@dataclass(slots=True)
class QueueStatistics:
    """Counters of one queue pair. Frames are counted once, buffers and descriptors are not counted.

    ``rx_packets`` is every good frame, as ``rtnl_link_stats64`` has it: the sum of ``rx_xdp_*``. With ``rx_errors`` it
    is every frame that the device completed.
    """

    rx_packets: int = 0  #: good frames taken from the completion ring
    rx_bytes: int = 0  #: their bytes
    rx_errors: int = 0  #: frames dropped because of an error, mostly the device's; by cause:
    rx_write_fault: int = 0  #: memory refused the device's write
    rx_length_errors: int = 0  #: of 0, beyond what was posted, a frame without end; headers where none can be
    rx_alloc_failed: int = 0  #: no memory for the copy of a buffer
    rx_bad_buffer: int = 0  #: an id that is not posted
    rx_csum_bad: int = 0  #: frames without error whose checksum the device found wrong
    rx_csum_unnecessary: int = 0  #: of ``rx_xdp_pass``, handed up as CHECKSUM_UNNECESSARY
    rx_csum_complete: int = 0  #: as CHECKSUM_COMPLETE
    rx_csum_none: int = 0  #: as CHECKSUM_NONE
    rx_removed_vlan_packets: int = 0  #: of ``rx_xdp_pass``, handed up without the VLAN tag that they had
    rx_hsplit_packets: int = 0  #: of ``rx_xdp_pass``, handed up with their headers apart
    rx_hsplit_bytes: int = 0  #: bytes of those headers
    rx_xdp_drop: int = 0
    rx_xdp_pass: int = 0
    rx_xdp_tx: int = 0  #: queued for sending
    rx_xdp_tx_full: int = 0  #: to be sent, but the ring was full, or mapping or sending impossible: dropped
    rx_xdp_redirect: int = 0  #: to be sent by some device, which counts what it had no room for
    rx_xdp_frags: int = 0  #: over several buffers, for a program that takes but one: dropped
    rx_xdp_aborted: int = 0  #: the program gave up, gave no known verdict, or redirected to nowhere: dropped
    rx_no_memory: int = 0  #: polls that could not refill the ring
    tx_packets: int = 0  #: frames that the device completed and reported no error of
    tx_bytes: int = 0  #: their bytes
    tx_errors: int = 0  #: frames that the device refused and was asked to report; ``tx_errors`` of its own has all
    tx_offload_errors: int = 0  #: of those, refused because of an offload
    tx_dropped: int = 0  #: frames and SKBs of the stack that found no room or mapping
    tx_xdp_xmit: int = 0  #: frames redirected to this queue pair that were queued
    tx_xdp_xmit_full: int = 0  #: that were not: no room, no mapping, or sending has stopped
    tx_csum_partial: int = 0  #: frames queued with a checksum to insert
    tx_added_vlan_packets: int = 0  #: with a VLAN tag to insert
    tx_tso_packets: int = 0  #: to be segmented; each counts once in ``tx_packets``
    tx_tso_bytes: int = 0  #: payload of those
    tx_bad_completion: int = 0  #: completions of what is not queued: ignored
    tx_aborted: int = 0  #: frames that were still queued when the queue was stopped
    interrupts: int = 0
    rx_stopped: int = 0  #: times the device stopped receiving because of an error
    tx_stopped: int = 0  #: times it stopped sending because of one

    @property
    def rx_completed(self) -> int:
        """Every frame that the device completed, good or not."""
        return self.rx_packets + self.rx_errors

    def count_pass(self, metadata: RxMetadata) -> None:
        """A frame is handed up with this."""
        summed, header = metadata.ip_summed, metadata.header
        self.rx_xdp_pass += 1
        self.rx_csum_unnecessary += summed is Checksum.UNNECESSARY
        self.rx_csum_complete += summed is Checksum.COMPLETE
        self.rx_csum_none += summed is Checksum.NONE
        self.rx_removed_vlan_packets += metadata.vlan_tag is not None
        if header is not None:
            self.rx_hsplit_packets += 1
            self.rx_hsplit_bytes += header[1]

    def ethtool(self, queue: int) -> dict[str, int]:
        """Under ethtool's names, with the queue's number."""
        return {f"queue{queue}_{name}": value for name, value in asdict(self).items()}
