// result = round(acc + a0*b0 + a1*b1), one rounding: docs/numerics.md, section 3, `fused` with two products.
//
// The terms are sorted by their exponents, and added in two steps. Only terms of nearly equal exponents can cancel more
// than two bits. So if the largest two are near each other, they are added first, exactly, and then the third.
// Else the smaller two are added first, and bits that fall out lie far below the largest term.

module hfp8_fmma (a0, b0, a1, b1, acc, mode, saturate, random, result, flags);
    `include "hfp8_format.vh"
    parameter [31:0] A_FORMAT = 32'h00b02464;   // hfp8-143
    parameter [31:0] B_FORMAT = 32'h00b02464;
    parameter [31:0] ACC_FORMAT = 32'h01f22526; // dlfloat16
    parameter integer RANDOM_BITS = 13;
    localparam integer P = fraction_bits(A_FORMAT) + 1 + fraction_bits(B_FORMAT) + 1;
    localparam integer F = fraction_bits(ACC_FORMAT);
    localparam integer WIDTH = larger(P, F + 1) + 1;
    localparam integer GUARD = larger(4, rounding_bits(ACC_FORMAT, RANDOM_BITS) + 4 - WIDTH);
    localparam integer PAIR = WIDTH + GUARD + 1; // bits of the sum of two terms
    localparam integer SUM = PAIR + 3 + 1;       // bits of the sum of three
    localparam integer XW = larger(
        exponent_width(A_FORMAT, B_FORMAT, 2 * SUM), exponent_width(ACC_FORMAT, ACC_FORMAT, 2 * SUM)
    );
    localparam signed [XW-1:0] NEAR = 4; // with this distance, the smaller two are less than half of the largest

    input  [code_bits(A_FORMAT)-1:0] a0;
    input  [code_bits(B_FORMAT)-1:0] b0;
    input  [code_bits(A_FORMAT)-1:0] a1;
    input  [code_bits(B_FORMAT)-1:0] b1;
    input  [code_bits(ACC_FORMAT)-1:0] acc;
    input  [3:0] mode;
    input  saturate;
    input  [RANDOM_BITS-1:0] random;
    output [code_bits(ACC_FORMAT)-1:0] result;
    output [3:0] flags;

    // -- the terms: zero, negative, exponent, significand

    localparam integer TERM = 2 + XW + WIDTH;
    wire p_nan, p_infinite, p_zero, p_negative;
    wire signed [XW-1:0] p_exponent;
    wire [P-1:0] p_significand;
    wire [TERM-1:0] p = {p_zero, p_negative, p_exponent, p_significand, {(WIDTH-P){1'b0}}};

    hfp8_multiply #(.A_FORMAT(A_FORMAT), .B_FORMAT(B_FORMAT), .XW(XW)) multiply_0 (
        a0, b0, p_nan, p_infinite, p_zero, p_negative, p_exponent, p_significand
    );

    wire q_nan, q_infinite, q_zero, q_negative;
    wire signed [XW-1:0] q_exponent;
    wire [P-1:0] q_significand;
    wire [TERM-1:0] q = {q_zero, q_negative, q_exponent, q_significand, {(WIDTH-P){1'b0}}};

    hfp8_multiply #(.A_FORMAT(A_FORMAT), .B_FORMAT(B_FORMAT), .XW(XW)) multiply_1 (
        a1, b1, q_nan, q_infinite, q_zero, q_negative, q_exponent, q_significand
    );

    wire c_nan, c_infinite, c_zero, c_negative;
    wire signed [XW-1:0] c_exponent;
    wire [F:0] c_significand;
    wire [TERM-1:0] c = {c_zero, c_negative, c_exponent, c_significand, {(WIDTH-F-1){1'b0}}};

    hfp8_unpack #(.FORMAT(ACC_FORMAT), .XW(XW)) unpack (
        acc, c_nan, c_infinite, c_zero, c_negative, c_exponent, c_significand
    );

    // -- sort: u has the largest exponent, then v, then w; zero comes last

    wire p_before_q = !p_zero && (q_zero || p_exponent > q_exponent);
    wire p_before_c = !p_zero && (c_zero || p_exponent > c_exponent);
    wire q_before_c = !q_zero && (c_zero || q_exponent > c_exponent);
    wire p_first = p_before_q && p_before_c;
    wire q_first = !p_before_q && q_before_c;
    wire p_last = !p_before_q && !p_before_c;
    wire q_last = p_before_q && !q_before_c;
    wire [TERM-1:0] u = p_first ? p : q_first ? q : c;
    wire [TERM-1:0] w = p_last ? p : q_last ? q : c;
    wire [TERM-1:0] v = !p_first && !p_last ? p : !q_first && !q_last ? q : c;

    // -- add two of them, then the third

    wire signed [XW-1:0] distance = $signed(u[TERM-3:WIDTH]) - $signed(v[TERM-3:WIDTH]);
    wire near = distance < NEAR;
    wire [TERM-1:0] x = near ? u : w;
    wire [TERM-1:0] z = near ? w : u;

    // verilator lint_off UNUSEDSIGNAL
    wire pair_nan, pair_infinite, sum_nan, sum_infinite; // no number of these sums is NaN or infinite
    // verilator lint_on UNUSEDSIGNAL
    wire pair_zero, pair_negative, sum_zero, sum_negative;
    wire signed [XW-1:0] pair_exponent, exponent;
    wire [PAIR-1:0] pair_significand;
    wire [SUM-1:0] significand;

    hfp8_sum #(.XW(XW), .WIDTH(WIDTH), .GUARD(GUARD)) pair (
        1'b0, 1'b0, x[TERM-1], x[TERM-2], x[TERM-3:WIDTH], x[WIDTH-1:0],
        1'b0, 1'b0, v[TERM-1], v[TERM-2], v[TERM-3:WIDTH], v[WIDTH-1:0],
        pair_nan, pair_infinite, pair_zero, pair_negative, pair_exponent, pair_significand
    );
    hfp8_sum #(.XW(XW), .WIDTH(PAIR), .GUARD(3)) sum (
        1'b0, 1'b0, pair_zero, pair_negative, pair_exponent, pair_significand,
        1'b0, 1'b0, z[TERM-1], z[TERM-2], z[TERM-3:WIDTH], {z[WIDTH-1:0], {(PAIR-WIDTH){1'b0}}},
        sum_nan, sum_infinite, sum_zero, sum_negative, exponent, significand
    );

    wire plus_infinity = (p_infinite && !p_negative) || (q_infinite && !q_negative) || (c_infinite && !c_negative);
    wire minus_infinity = (p_infinite && p_negative) || (q_infinite && q_negative) || (c_infinite && c_negative);
    wire nan = p_nan || q_nan || c_nan || (plus_infinity && minus_infinity);
    wire infinite = plus_infinity || minus_infinity;
    wire negative = infinite ? minus_infinity : sum_negative;

    hfp8_round #(
        .FORMAT(ACC_FORMAT), .XW(XW), .WIDTH(SUM), .RANDOM_BITS(RANDOM_BITS), .SUM(1'b1)
    ) round (
        nan, infinite, !infinite && sum_zero, negative, exponent, significand, 1'b0,
        mode, saturate, random, result, flags
    );
endmodule
