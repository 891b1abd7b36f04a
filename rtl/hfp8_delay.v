// A value, some cycles later.

module hfp8_delay (clk, x, y);
    parameter integer WIDTH = 1;
    parameter integer CYCLES = 1; // may be 0

    input  clk;
    input  [WIDTH-1:0] x;
    output [WIDTH-1:0] y;

    generate
        if (CYCLES == 0) begin : none
            // verilator lint_off UNUSEDSIGNAL
            wire unused = clk;
            // verilator lint_on UNUSEDSIGNAL
            assign y = x;
        end else begin : some
            reg [CYCLES*WIDTH-1:0] line;
            always @(posedge clk)
                line <= (line << WIDTH) | {{((CYCLES-1)*WIDTH){1'b0}}, x};
            assign y = line[CYCLES*WIDTH-1:(CYCLES-1)*WIDTH];
        end
    endgenerate
endmodule
