# SPDX-License-Identifier: BSD-2-Clause
"""What all of the NIC's driver needs to talk to the device."""

POLL_STEP_PS = 2 * 10**6  #: between two looks at a register that is waited for
RESET_TIMEOUT_PS = 10**10


class DeviceError(RuntimeError):
    """The device is not what the driver expects, or does not answer in time."""
