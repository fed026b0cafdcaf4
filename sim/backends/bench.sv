// SPDX-License-Identifier: BSD-2-Clause
// Clock, reset and the one signal that wakes Python, around the generated machine.

`timescale 1ns / 1ps

module pagewheel_bench;
    // True once Python has bound the storages.
    import "DPI-C" function bit pagewheel_started();
    // Ends an edge, whose writes all have landed: counts it, and tells whether software must run.
    import "DPI-C" function bit pagewheel_edge_taken();
    // Whether the next edge is one of reset.
    import "DPI-C" function bit pagewheel_reset();

    bit clk;
    bit rst;
    bit wake;

    pagewheel_machine machine (.clk(clk), .rst(rst));

    initial begin
        while (!pagewheel_started()) #1;
        forever begin
            #1 clk = 1;
            #1 clk = 0;
            rst = pagewheel_reset();
            if (pagewheel_edge_taken()) wake = !wake;
        end
    end
endmodule
