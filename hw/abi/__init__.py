# SPDX-License-Identifier: BSD-2-Clause
"""What software and hardware agree on: ring entries, reasons, registers."""
