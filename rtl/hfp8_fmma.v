// result = round(acc + a0*b0 + a1*b1), one rounding: docs/numerics.md, section 3, `fused` with two products.
//
// The three terms are added as integers: multiples of 2^LOW, the lowest bit that any of them can have. So the sum is
// exact whatever cancels.

module hfp8_fmma (a0, b0, a1, b1, acc, mode, saturate, random, result, flags);
    `include "hfp8_format.vh"
    parameter [31:0] A_FORMAT = 32'h00b02464;   // hfp8-143
    parameter [31:0] B_FORMAT = 32'h00b02464;
    parameter [31:0] ACC_FORMAT = 32'h01f22526; // dlfloat16
    parameter integer RANDOM_BITS = 13;
    localparam integer P = fraction_bits(A_FORMAT) + 1 + fraction_bits(B_FORMAT) + 1;
    localparam integer F = fraction_bits(ACC_FORMAT);
    localparam integer P_LOW = lowest_exponent(A_FORMAT) + lowest_exponent(B_FORMAT) - P + 2;
    localparam integer P_HIGH = highest_exponent(A_FORMAT) + highest_exponent(B_FORMAT) + 1;
    localparam integer C_LOW = lowest_exponent(ACC_FORMAT) - F;
    localparam integer C_HIGH = highest_exponent(ACC_FORMAT);
    localparam integer LOW = 0 - larger(0 - P_LOW, 0 - C_LOW);
    localparam integer HIGH = larger(P_HIGH, C_HIGH);
    localparam integer WIDTH = HIGH - LOW + 1 + 3; // two bits for the sum of three terms, and the sign
    localparam integer COUNT_BITS = log2_ceiling(WIDTH - 1);
    localparam integer XW = larger(
        exponent_width(A_FORMAT, B_FORMAT, 2 * WIDTH), exponent_width(ACC_FORMAT, ACC_FORMAT, 2 * WIDTH)
    );

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

    // verilator lint_off UNUSEDSIGNAL
    wire p_zero, q_zero, c_zero; // the integers say it
    // verilator lint_on UNUSEDSIGNAL

    wire p_nan, p_infinite, p_negative;
    wire signed [XW-1:0] p_exponent;
    wire [P-1:0] p_significand;

    hfp8_multiply #(.A_FORMAT(A_FORMAT), .B_FORMAT(B_FORMAT), .XW(XW)) multiply_0 (
        a0, b0, p_nan, p_infinite, p_zero, p_negative, p_exponent, p_significand
    );

    wire q_nan, q_infinite, q_negative;
    wire signed [XW-1:0] q_exponent;
    wire [P-1:0] q_significand;

    hfp8_multiply #(.A_FORMAT(A_FORMAT), .B_FORMAT(B_FORMAT), .XW(XW)) multiply_1 (
        a1, b1, q_nan, q_infinite, q_zero, q_negative, q_exponent, q_significand
    );

    wire c_nan, c_infinite, c_negative;
    wire signed [XW-1:0] c_exponent;
    wire [F:0] c_significand;

    hfp8_unpack #(.FORMAT(ACC_FORMAT), .XW(XW)) unpack (
        acc, c_nan, c_infinite, c_zero, c_negative, c_exponent, c_significand
    );

    // -- the terms as integers; the exponent of a zero product may be anything, and its significand is 0

    localparam integer P_PLACE = 0 - LOW - P + 1; // added to an exponent: the place of the lowest bit
    localparam integer C_PLACE = 0 - LOW - F;
    wire [XW-1:0] p_place = p_exponent + P_PLACE[XW-1:0];
    wire [XW-1:0] q_place = q_exponent + P_PLACE[XW-1:0];
    wire [XW-1:0] c_place = c_exponent + C_PLACE[XW-1:0];
    wire [WIDTH-1:0] p_long = {{(WIDTH-P){1'b0}}, p_significand} << p_place;
    wire [WIDTH-1:0] q_long = {{(WIDTH-P){1'b0}}, q_significand} << q_place;
    wire [WIDTH-1:0] c_long = {{(WIDTH-F-1){1'b0}}, c_significand} << c_place;

    wire [WIDTH-1:0] total = (p_negative ? -p_long : p_long)
        + (q_negative ? -q_long : q_long)
        + (c_negative ? -c_long : c_long);
    wire total_negative = total[WIDTH-1];
    wire [WIDTH-2:0] absolute = total_negative ? -total[WIDTH-2:0] : total[WIDTH-2:0];

    // -- normalise and round

    wire [COUNT_BITS-1:0] zeros;
    wire [WIDTH-2:0] normalised;

    hfp8_normalise #(.WIDTH(WIDTH - 1)) normalise (absolute, normalised, zeros);

    localparam integer TOP = LOW + WIDTH - 2; // exponent of the highest bit
    wire signed [XW-1:0] exponent = $signed(TOP[XW-1:0]) - $signed({{(XW-COUNT_BITS){1'b0}}, zeros});

    wire plus_infinity = (p_infinite && !p_negative) || (q_infinite && !q_negative) || (c_infinite && !c_negative);
    wire minus_infinity = (p_infinite && p_negative) || (q_infinite && q_negative) || (c_infinite && c_negative);
    wire nan = p_nan || q_nan || c_nan || (plus_infinity && minus_infinity);
    wire infinite = plus_infinity || minus_infinity;
    wire zero = !infinite && total == 0;
    wire negative = infinite ? minus_infinity : total_negative;

    hfp8_round #(
        .FORMAT(ACC_FORMAT), .XW(XW), .WIDTH(WIDTH - 1), .RANDOM_BITS(RANDOM_BITS), .SUM(1'b1)
    ) round (
        nan, infinite, zero, negative, exponent, normalised, 1'b0,
        mode, saturate, random, result, flags
    );
endmodule
