// SPDX-License-Identifier: BSD-2-Clause
// Clock, reset and the one signal that wakes Python, around the generated machine.

`timescale 1ns / 1ps

module pagewheel_bench;
    // True once Python has bound the storages.
    import "DPI-C" function bit pagewheel_started();
    // Ends an edge, whose writes all have landed: counts it, and tells whether software must run.
    import "DPI-C" function bit pagewheel_edge_taken();
    // Asked at each edge: whether the next one is of reset.
    import "DPI-C" function bit pagewheel_reset();

    bit clk;
    bit rst;
    bit wake /*verilator public_flat_rd*/;  // the one signal that Python sees

    pagewheel_machine machine (.clk(clk), .rst(rst));

    // Only in processes of posedge clk: whatever depended on a signal that another process writes would be evaluated
    // again after each of that process' steps, which costs as much as everything else together.
    always_ff @(posedge clk) rst <= pagewheel_reset();

    initial begin
        while (!pagewheel_started()) #1;
        forever begin
            #1 clk = 1;
            #1 clk = 0;
            if (pagewheel_edge_taken()) wake = !wake;
        end
    end
endmodule
