# SPDX-License-Identifier: BSD-2-Clause
"Bulk: pages, slab objects, SKBs."
