// The exact product of two numbers. Its significand has one or two bits before the point: its highest bit may be 0.
// The value is significand * 2^(exponent - WIDTH + 1).

module hfp8_multiply (a, b, nan, infinite, zero, negative, exponent, significand);
    `include "hfp8_format.vh"
    parameter [31:0] A_FORMAT = 32'h00b02464; // hfp8-143
    parameter [31:0] B_FORMAT = 32'h00b02464;
    parameter integer XW = 10;
    localparam integer A_F = fraction_bits(A_FORMAT);
    localparam integer B_F = fraction_bits(B_FORMAT);
    localparam integer WIDTH = A_F + 1 + B_F + 1;
    localparam signed [XW-1:0] ONE = 1;

    input  [code_bits(A_FORMAT)-1:0] a;
    input  [code_bits(B_FORMAT)-1:0] b;
    output nan;
    output infinite;
    output zero;
    output negative;
    output signed [XW-1:0] exponent;
    output [WIDTH-1:0] significand;

    wire a_nan, a_infinite, a_zero, a_negative;
    wire b_nan, b_infinite, b_zero, b_negative;
    wire signed [XW-1:0] a_exponent, b_exponent;
    wire [A_F:0] a_significand;
    wire [B_F:0] b_significand;

    hfp8_unpack #(.FORMAT(A_FORMAT), .XW(XW)) unpack_a (
        a, a_nan, a_infinite, a_zero, a_negative, a_exponent, a_significand
    );
    hfp8_unpack #(.FORMAT(B_FORMAT), .XW(XW)) unpack_b (
        b, b_nan, b_infinite, b_zero, b_negative, b_exponent, b_significand
    );

    assign nan = a_nan || b_nan || (a_infinite && b_zero) || (a_zero && b_infinite);
    assign infinite = a_infinite || b_infinite;
    assign zero = a_zero || b_zero;
    assign negative = a_negative != b_negative;
    assign exponent = a_exponent + b_exponent + ONE;
    assign significand = {{(B_F+1){1'b0}}, a_significand} * {{(A_F+1){1'b0}}, b_significand};
endmodule
