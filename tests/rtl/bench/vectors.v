// Replays a file of `hfp8sim vectors` on a unit, in plain Verilog: for Icarus, or any simulator.
//
// Macros: FILE, WIDTH and COUNT of its memory, and the bits of each field as the file's comments give them, as A=51:44.
// One of CONVERT, FMA, FMMA, ADD and DOT chooses the unit; POLICY is 1 where overflow saturates.

`timescale 1ns / 1ps

module vectors;
    reg [`WIDTH-1:0] memory [0:`COUNT-1];
    reg [`WIDTH-1:0] v;
    integer i, wrong;

`ifdef DOT
    // 130 products through the chunk accumulator, one a cycle
    reg clk, valid, first, last;
    reg [7:0] a, b;
    wire closing, done;
    wire [15:0] result;
    wire [3:0] flags;
    reg [15:0] seen;
    integer k;

    hfp8_mac dut (
        clk, valid, first, last, 8'd64, a, b, 4'd1, 4'd1, 1'b0, 13'd0, 13'd0, closing, done, result, flags
    );

    task cycle;
        begin
            #1 clk = 1;
            #1 clk = 0;
            if (done)
                seen = result;
        end
    endtask

    initial begin
        $readmemh(`FILE, memory);
        wrong = 0;
        clk = 0;
        valid = 0;
        for (i = 0; i < `COUNT; i = i + 1) begin
            v = memory[i];
            seen = 16'bx;
            for (k = 0; k < 130; k = k + 1) begin
                valid = 1;
                first = k == 0;
                last = k == 129;
                a = v >> (`A_FIRST - 8 * k);
                b = v >> (`B_FIRST - 8 * k);
                cycle;
            end
            valid = 0;
            cycle;
            cycle;
            if (seen !== v[`RESULT]) begin
                wrong = wrong + 1;
                $display("vector %0d: %h instead of %h", i, seen, v[`RESULT]);
            end
        end
        $display("%0d cases, %0d wrong", `COUNT, wrong);
        $finish;
    end
`else
    wire [3:0] mode = v[`MODE];
    wire [23:0] random = v[`RANDOM];
    wire [3:0] flags;

`ifdef CONVERT
    wire [7:0] result;
    hfp8_convert dut (v[`X], mode, 1'b1, random[12:0], result, flags);
`endif
`ifdef FMA
    wire [15:0] result;
    hfp8_fma dut (v[`A], v[`B], v[`ACC], mode, 1'b0, random[12:0], result, flags);
`endif
`ifdef FMMA
    // The first of two numbers is the higher one, also among the random words. One rounding takes the first word.
    wire [47:0] words = v[`RANDOM];
    wire [15:0] a = v[`A];
    wire [15:0] b = v[`B];
    wire [15:0] result;
    hfp8_fmma dut (a[15:8], b[15:8], a[7:0], b[7:0], v[`ACC], mode, 1'b0, words[36:24], result, flags);
`endif
`ifdef ADD
    wire [15:0] result;
    hfp8_add dut (v[`TOTAL], v[`CHUNK], mode, 1'b0, random[12:0], result, flags);
`endif

    initial begin
        $readmemh(`FILE, memory);
        wrong = 0;
        for (i = 0; i < `COUNT; i = i + 1) begin
            v = memory[i];
            #1;
            if (((result ^ v[`RESULT]) & v[`CARE]) !== 0 || flags !== v[`FLAGS]) begin
                wrong = wrong + 1;
                $display("vector %0d, %h: %h, flags %h", i, v, result, flags);
            end
        end
        $display("%0d cases, %0d wrong", `COUNT, wrong);
        $finish;
    end
`endif
endmodule
