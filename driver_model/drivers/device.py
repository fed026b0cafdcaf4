# SPDX-License-Identifier: BSD-2-Clause
"""What all of the NIC's driver needs to talk to the device."""

POLL_STEP_PS = 2 * 10**6  #: between two looks at a register that is waited for
RESET_TIMEOUT_PS = 10**10


class DeviceError(RuntimeError):
    """The device is not what the driver expects, or does not answer in time."""


class DeviceGoneError(DeviceError):
    """It was removed, or has fallen off the bus: its registers read all ones, which none of them ever has."""

    def __init__(self) -> None:
        super().__init__("The device is gone: its registers read all ones")
