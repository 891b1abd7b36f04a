// The number that a code stands for: docs/numerics.md, section 1.
//
// A number that is not zero, infinite or NaN is significand * 2^(exponent - F), and bit F of the significand is
// set: subnormal numbers are normalised. Zero has the significand 0.

module hfp8_unpack (code, nan, infinite, zero, negative, exponent, significand);
    `include "hfp8_format.vh"
    parameter [31:0] FORMAT = 32'h01f22526; // dlfloat16
    parameter integer XW = 10;              // bits of an exponent, a signed number
    localparam integer F = fraction_bits(FORMAT);
    localparam integer M = magnitude_bits(FORMAT);
    localparam integer CODE_BITS = code_bits(FORMAT);
    localparam integer BIAS = bias_of(FORMAT);
    localparam [31:0] INFINITY = infinity_magnitude(FORMAT);
    localparam signed [XW-1:0] ONE = 1;

    input  [CODE_BITS-1:0] code;
    output nan;
    output infinite;
    output zero;
    output negative;
    output signed [XW-1:0] exponent;
    output [F:0] significand;

    wire [M-1:0] magnitude = code[M-1:0];
    wire [M-F-1:0] field = magnitude[M-1:F];
    wire [F:0] fraction = magnitude[F:0] & ~({{F{1'b0}}, 1'b1} << F);
    wire sign;

    generate
        if (is_signed(FORMAT))
            assign sign = code[CODE_BITS-1];
        else
            assign sign = 1'b0;

        if (nan_is_minus_zero(FORMAT))
            assign nan = sign && magnitude == 0;
        else if (special_rule(FORMAT) == SPECIAL_IEEE)
            assign nan = magnitude > INFINITY[M-1:0];
        else if (has_nan(FORMAT))
            assign nan = &magnitude;
        else
            assign nan = 1'b0;

        if (has_infinity(FORMAT))
            assign infinite = !nan && magnitude == INFINITY[M-1:0];
        else
            assign infinite = 1'b0;

        if (zero_rule(FORMAT) == ZERO_NONE)
            assign zero = 1'b0;
        else if (lowest_rule(FORMAT) == LOWEST_FLUSH)
            assign zero = !nan && field == 0;
        else
            assign zero = !nan && magnitude == 0;
    endgenerate

    assign negative = sign && !nan;

    // Exponent and significand, the hidden bit included
    wire signed [XW-1:0] plain = $signed({{(XW-M+F){1'b0}}, field}) - BIAS[XW-1:0];

    generate
        if (lowest_rule(FORMAT) == LOWEST_SUBNORMAL && F > 0) begin : subnormal
            localparam integer COUNT_BITS = log2_ceiling(F + 1);
            wire [F:0] normalised;
            wire [COUNT_BITS-1:0] places;

            hfp8_normalise #(.WIDTH(F + 1)) normalise (fraction, normalised, places);

            wire low = field == 0;
            assign exponent = low
                ? plain + ONE - $signed({{(XW-COUNT_BITS){1'b0}}, places})
                : plain;
            assign significand = low ? normalised : fraction | ({{F{1'b0}}, 1'b1} << F);
        end else begin : hidden_bit
            assign exponent = plain;
            assign significand = zero ? {(F+1){1'b0}} : fraction | ({{F{1'b0}}, 1'b1} << F);
        end
    endgenerate
endmodule
