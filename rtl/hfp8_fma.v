// result = round(acc + a*b): docs/numerics.md, section 3.

module hfp8_fma (a, b, acc, mode, saturate, random, result, flags);
    `include "hfp8_format.vh"
    parameter [31:0] A_FORMAT = 32'h00b02464;   // hfp8-143
    parameter [31:0] B_FORMAT = 32'h00b02464;
    parameter [31:0] ACC_FORMAT = 32'h01f22526; // dlfloat16
    parameter integer RANDOM_BITS = 13;
    localparam integer P = fraction_bits(A_FORMAT) + 1 + fraction_bits(B_FORMAT) + 1;
    localparam integer F = fraction_bits(ACC_FORMAT);
    localparam integer WIDTH = larger(P, F + 1) + 1;
    localparam integer GUARD = larger(3, rounding_bits(ACC_FORMAT, RANDOM_BITS) + 4 - WIDTH);
    localparam integer SUM = WIDTH + GUARD + 1;
    localparam integer XW = larger(
        exponent_width(A_FORMAT, B_FORMAT, 2 * SUM), exponent_width(ACC_FORMAT, ACC_FORMAT, 2 * SUM)
    );

    input  [code_bits(A_FORMAT)-1:0] a;
    input  [code_bits(B_FORMAT)-1:0] b;
    input  [code_bits(ACC_FORMAT)-1:0] acc;
    input  [3:0] mode;
    input  saturate;
    input  [RANDOM_BITS-1:0] random;
    output [code_bits(ACC_FORMAT)-1:0] result;
    output [3:0] flags;

    wire p_nan, p_infinite, p_zero, p_negative;
    wire signed [XW-1:0] p_exponent;
    wire [P-1:0] p_significand;

    hfp8_multiply #(.A_FORMAT(A_FORMAT), .B_FORMAT(B_FORMAT), .XW(XW)) multiply (
        a, b, p_nan, p_infinite, p_zero, p_negative, p_exponent, p_significand
    );

    wire c_nan, c_infinite, c_zero, c_negative;
    wire signed [XW-1:0] c_exponent;
    wire [F:0] c_significand;

    hfp8_unpack #(.FORMAT(ACC_FORMAT), .XW(XW)) unpack (
        acc, c_nan, c_infinite, c_zero, c_negative, c_exponent, c_significand
    );

    wire nan, infinite, zero, negative;
    wire signed [XW-1:0] exponent;
    wire [SUM-1:0] significand;

    hfp8_sum #(.XW(XW), .WIDTH(WIDTH), .GUARD(GUARD)) sum (
        p_nan, p_infinite, p_zero, p_negative, p_exponent, {p_significand, {(WIDTH-P){1'b0}}},
        c_nan, c_infinite, c_zero, c_negative, c_exponent, {c_significand, {(WIDTH-F-1){1'b0}}},
        nan, infinite, zero, negative, exponent, significand
    );

    hfp8_round #(
        .FORMAT(ACC_FORMAT), .XW(XW), .WIDTH(SUM), .RANDOM_BITS(RANDOM_BITS), .SUM(1'b1)
    ) round (
        nan, infinite, zero, negative, exponent, significand, 1'b0,
        mode, saturate, random, result, flags
    );
endmodule
