// The chunk accumulator with its own random source, one register for both of its roundings: a lane with the random
// source `lfsr`, docs/numerics.md, section 4. `load` comes before the first step of a sum.

module hfp8_mac_lfsr (
    clk, load, seed, valid, first, last, chunk_steps, a, b,
    mode, between_mode, saturate, done, result, flags
);
    `include "hfp8_format.vh"
    parameter [31:0] A_FORMAT = 32'h00b02464;       // hfp8-143
    parameter [31:0] B_FORMAT = 32'h00b02464;
    parameter [31:0] ACC_FORMAT = 32'h01f22526;     // dlfloat16
    parameter [31:0] BETWEEN_FORMAT = 32'h01f22526;
    parameter integer PRODUCTS = 1;
    parameter integer RANDOM_BITS = 13;
    parameter integer COUNTER_BITS = 8;

    input  clk;
    input  load;
    input  [31:0] seed;
    input  valid;
    input  first;
    input  last;
    input  [COUNTER_BITS-1:0] chunk_steps;
    input  [PRODUCTS*code_bits(A_FORMAT)-1:0] a;
    input  [PRODUCTS*code_bits(B_FORMAT)-1:0] b;
    input  [3:0] mode;
    input  [3:0] between_mode;
    input  saturate;
    output done;
    output [larger(code_bits(ACC_FORMAT), code_bits(BETWEEN_FORMAT))-1:0] result;
    output [3:0] flags;

    // verilator lint_off UNUSEDSIGNAL
    wire [31:0] first_word, second_word; // the upper bits are R
    // verilator lint_on UNUSEDSIGNAL
    wire closing;
    wire [RANDOM_BITS-1:0] sooner = first_word[31:32-RANDOM_BITS];
    wire [RANDOM_BITS-1:0] later = second_word[31:32-RANDOM_BITS];

    hfp8_lfsr lfsr (clk, load, seed, {1'b0, valid} + {1'b0, closing}, first_word, second_word);

    // A chunk closes in the cycle of the next chunk's first step, and its rounding comes first.
    hfp8_mac #(
        .A_FORMAT(A_FORMAT), .B_FORMAT(B_FORMAT), .ACC_FORMAT(ACC_FORMAT), .BETWEEN_FORMAT(BETWEEN_FORMAT),
        .PRODUCTS(PRODUCTS), .RANDOM_BITS(RANDOM_BITS), .COUNTER_BITS(COUNTER_BITS)
    ) mac (
        clk, valid, first, last, chunk_steps, a, b,
        mode, between_mode, saturate, closing ? later : sooner, sooner,
        closing, done, result, flags
    );
endmodule
