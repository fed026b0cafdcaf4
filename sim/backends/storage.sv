// SPDX-License-Identifier: BSD-2-Clause
// The storage primitive (sim/host/storage.py says what it does). Its bytes belong to Python; storage.cpp reaches them.

module pagewheel_storage #(
    parameter int NUMBER = 0,
    parameter int WIDTH = 64
) (
    input  logic                clk,
    input  logic                rst,
    input  logic                read_enable,
    input  logic [63:0]         read_address,
    output logic [WIDTH-1:0]    read_data,
    input  logic                write_enable,
    input  logic [63:0]         write_address,
    input  logic [WIDTH-1:0]    write_data,
    input  logic [WIDTH/8-1:0]  write_strobe,
    input  logic                write_exchange,
    input  logic [63:0]         write_expected,
    output logic                write_exchanged
);
    import "DPI-C" function longint unsigned pagewheel_read(
        input int number, input int bytes, input longint unsigned address);
    import "DPI-C" function void pagewheel_write(
        input int number, input int bytes, input longint unsigned address,
        input longint unsigned data, input longint unsigned strobe);
    import "DPI-C" function void pagewheel_read_wide(
        input int number, input int bytes, input longint unsigned address, output bit [511:0] data);
    import "DPI-C" function void pagewheel_write_wide(
        input int number, input int bytes, input longint unsigned address,
        input bit [511:0] data, input longint unsigned strobe);

    import "DPI-C" function bit pagewheel_exchange(
        input int number, input int bytes, input longint unsigned address,
        input bit [511:0] data, input longint unsigned strobe, input longint unsigned expected);

    initial read_data = '0;
    initial write_exchanged = '0;

    if (WIDTH <= 64) begin : narrow
        always_ff @(posedge clk) begin
            if (read_enable) read_data <= WIDTH'(pagewheel_read(NUMBER, WIDTH / 8, read_address));
            if (write_enable && write_exchange)
                write_exchanged <= pagewheel_exchange(
                    NUMBER, WIDTH / 8, write_address, 512'(write_data), 64'(write_strobe), write_expected);
            else if (write_enable)
                pagewheel_write(NUMBER, WIDTH / 8, write_address, 64'(write_data), 64'(write_strobe));
            if (rst) {read_data, write_exchanged} <= '0;
        end
    end else begin : wide
        bit [511:0] word;
        always_ff @(posedge clk) begin
            if (read_enable) begin
                pagewheel_read_wide(NUMBER, WIDTH / 8, read_address, word);
                read_data <= word[WIDTH-1:0];
            end
            if (write_enable && write_exchange)
                write_exchanged <= pagewheel_exchange(
                    NUMBER, WIDTH / 8, write_address, 512'(write_data), 64'(write_strobe), write_expected);
            else if (write_enable)
                pagewheel_write_wide(NUMBER, WIDTH / 8, write_address, 512'(write_data), 64'(write_strobe));
            if (rst) {read_data, write_exchanged} <= '0;
        end
    end
endmodule
