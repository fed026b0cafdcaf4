# SPDX-License-Identifier: BSD-2-Clause
"""The software: a model of Linux's packet-memory path in plain Python that knows no simulator."""
