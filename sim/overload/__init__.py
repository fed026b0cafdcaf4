# SPDX-License-Identifier: BSD-2-Clause
"""Runs in which a socket's reader is too slow for a time, on a machine whose memory is full of files."""
