// result = round(total + addend), in the total's format: the adder between chunks, docs/numerics.md, section 3.

module hfp8_add (total, addend, mode, saturate, random, result, flags);
    `include "hfp8_format.vh"
    parameter [31:0] TOTAL_FORMAT = 32'h01f22526;  // dlfloat16
    parameter [31:0] ADDEND_FORMAT = 32'h01f22526;
    parameter integer RANDOM_BITS = 13;
    localparam integer T = fraction_bits(TOTAL_FORMAT) + 1;
    localparam integer A = fraction_bits(ADDEND_FORMAT) + 1;
    localparam integer WIDTH = larger(T, A) + 1;
    localparam integer GUARD = larger(3, rounding_bits(TOTAL_FORMAT, RANDOM_BITS) + 4 - WIDTH);
    localparam integer SUM = WIDTH + GUARD + 1;
    localparam integer XW = exponent_width(TOTAL_FORMAT, ADDEND_FORMAT, 2 * SUM);

    input  [code_bits(TOTAL_FORMAT)-1:0] total;
    input  [code_bits(ADDEND_FORMAT)-1:0] addend;
    input  [3:0] mode;
    input  saturate;
    input  [RANDOM_BITS-1:0] random;
    output [code_bits(TOTAL_FORMAT)-1:0] result;
    output [3:0] flags;

    wire t_nan, t_infinite, t_zero, t_negative;
    wire signed [XW-1:0] t_exponent;
    wire [T-1:0] t_significand;

    hfp8_unpack #(.FORMAT(TOTAL_FORMAT), .XW(XW)) unpack_total (
        total, t_nan, t_infinite, t_zero, t_negative, t_exponent, t_significand
    );

    wire a_nan, a_infinite, a_zero, a_negative;
    wire signed [XW-1:0] a_exponent;
    wire [A-1:0] a_significand;

    hfp8_unpack #(.FORMAT(ADDEND_FORMAT), .XW(XW)) unpack_addend (
        addend, a_nan, a_infinite, a_zero, a_negative, a_exponent, a_significand
    );

    wire nan, infinite, zero, negative;
    wire signed [XW-1:0] exponent;
    wire [SUM-1:0] significand;

    hfp8_sum #(.XW(XW), .WIDTH(WIDTH), .GUARD(GUARD)) sum (
        t_nan, t_infinite, t_zero, t_negative, t_exponent, {t_significand, {(WIDTH-T){1'b0}}},
        a_nan, a_infinite, a_zero, a_negative, a_exponent, {a_significand, {(WIDTH-A){1'b0}}},
        nan, infinite, zero, negative, exponent, significand
    );

    hfp8_round #(
        .FORMAT(TOTAL_FORMAT), .XW(XW), .WIDTH(SUM), .RANDOM_BITS(RANDOM_BITS), .SUM(1'b1)
    ) round (
        nan, infinite, zero, negative, exponent, significand, 1'b0,
        mode, saturate, random, result, flags
    );
endmodule
