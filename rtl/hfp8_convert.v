// One number from a format into another, rounded once: docs/numerics.md, section 2. Zero keeps its sign.

module hfp8_convert (x, mode, saturate, random, result, flags);
    `include "hfp8_format.vh"
    parameter [31:0] SOURCE = 32'h07f086e8; // binary32
    parameter [31:0] TARGET = 32'h00b02464; // hfp8-143
    parameter integer RANDOM_BITS = 13;
    localparam integer F = fraction_bits(SOURCE);
    localparam integer XW = exponent_width(SOURCE, TARGET, F + 1 + rounding_bits(TARGET, RANDOM_BITS));

    input  [code_bits(SOURCE)-1:0] x;
    input  [3:0] mode;
    input  saturate;
    input  [RANDOM_BITS-1:0] random;
    output [code_bits(TARGET)-1:0] result;
    output [3:0] flags;

    wire nan, infinite, zero, negative;
    wire signed [XW-1:0] exponent;
    wire [F:0] significand;

    hfp8_unpack #(.FORMAT(SOURCE), .XW(XW)) unpack (
        x, nan, infinite, zero, negative, exponent, significand
    );

    hfp8_round #(.FORMAT(TARGET), .XW(XW), .WIDTH(F + 1), .RANDOM_BITS(RANDOM_BITS)) round (
        nan, infinite, zero, negative, exponent, significand, 1'b0,
        mode, saturate, random, result, flags
    );
endmodule
