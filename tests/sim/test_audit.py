# SPDX-License-Identifier: BSD-2-Clause
"""What a run says was dropped, from what the device and the driver counted."""

from types import SimpleNamespace

from driver_model.drivers.statistics import QueueStatistics
from sim.audit import Audit
from sim.config import preset


def dropped(statistics, *queues):
    driver = SimpleNamespace(queues=[SimpleNamespace(statistics=queue) for queue in queues])
    consumer = SimpleNamespace(dropped={})
    run = SimpleNamespace(statistics=statistics, machine=preset("10g"), driver=driver, consumer=consumer)
    return Audit(run).dropped()


def test_nothing_is_dropped_for_no_reason():
    assert dropped({"tx_errors": 0}, QueueStatistics(tx_packets=5)) == {}


def test_frames_refused_without_a_report_count_as_those_with_one():
    counted = QueueStatistics(tx_packets=5, tx_errors=1, tx_aborted=2), QueueStatistics(rx_errors=3)
    assert dropped({"tx_errors": 4}, *counted) == {"tx_error": 4, "tx_aborted": 2, "rx_error": 3}


def test_drops_of_port_and_queues_are_summed():
    statistics = {"tx_errors": 0, "rx_drop_runt": 2, "nic_queue0_drop_no_buffer": 3, "nic_queue1_drop_no_buffer": 4}
    statistics["nic_queue1_drop_pool_limit"] = 5
    assert dropped(statistics) == {"runt": 2, "no_buffer": 7, "pool_limit": 5}
