// The sum of two numbers x and y, exact as far as a rounding can see: docs/numerics.md, section 3.
//
// The smaller number is shifted to the larger one's exponent. Bits that fall out set the lowest bit of the result. It
// then says that the sum lies between its two even neighbours, which is below everything that a rounding looks
// at. If bits fall out, the numbers are so far apart that at most three leading bits cancel.
//
// A significand has its highest bit set, or in a product the next one; x and y have WIDTH bits. The sum has a
// leading one, unless it is zero, infinite or NaN.

module hfp8_sum (
    x_nan, x_infinite, x_zero, x_negative, x_exponent, x_significand,
    y_nan, y_infinite, y_zero, y_negative, y_exponent, y_significand,
    nan, infinite, zero, negative, exponent, significand
);
    `include "hfp8_format.vh"
    parameter integer XW = 10;
    parameter integer WIDTH = 10;
    parameter integer GUARD = 18;            // at least 3; WIDTH + GUARD - 3 bits are exact
    localparam integer SUM = WIDTH + GUARD + 1; // bits of the sum
    localparam integer COUNT_BITS = log2_ceiling(SUM);
    localparam signed [XW-1:0] ONE = 1;

    input  x_nan, x_infinite, x_zero, x_negative;
    input  signed [XW-1:0] x_exponent;
    input  [WIDTH-1:0] x_significand;
    input  y_nan, y_infinite, y_zero, y_negative;
    input  signed [XW-1:0] y_exponent;
    input  [WIDTH-1:0] y_significand;
    output nan, infinite, zero, negative;
    output signed [XW-1:0] exponent;
    output [SUM-1:0] significand;

    assign nan = x_nan || y_nan || (x_infinite && y_infinite && x_negative != y_negative);
    assign infinite = x_infinite || y_infinite;

    // -- align: zero has no exponent, and is always the smaller one

    wire signed [XW-1:0] difference = x_exponent - y_exponent;
    wire swap = x_zero || (!y_zero && difference[XW-1]);
    wire [XW-1:0] distance = swap ? -difference : difference;
    wire [WIDTH-1:0] major = swap ? y_significand : x_significand;
    wire [WIDTH-1:0] minor = swap ? x_significand : y_significand;
    wire major_negative = swap ? y_negative : x_negative;
    wire signed [XW-1:0] major_exponent = swap ? y_exponent : x_exponent;

    localparam integer FAR = WIDTH + GUARD;
    wire [XW-1:0] places = distance > FAR[XW-1:0] ? FAR[XW-1:0] : distance;
    wire [FAR+WIDTH-1:0] shifted = {minor, {FAR{1'b0}}} >> places;
    wire lost = shifted[WIDTH-1:0] != 0;
    wire [FAR-1:0] aligned = {shifted[FAR+WIDTH-1:WIDTH+1], shifted[WIDTH] || lost};

    // -- add or subtract; the difference is negative only if nothing was lost

    wire subtract = x_negative != y_negative;
    wire [SUM-1:0] long_major = {1'b0, major, {GUARD{1'b0}}};
    wire [SUM-1:0] long_minor = {1'b0, aligned};
    wire [SUM-1:0] total = subtract ? long_major - long_minor : long_major + long_minor;
    wire reversed = subtract && total[SUM-1];
    wire [SUM-1:0] absolute = reversed ? -total : total;

    // -- normalise

    wire [COUNT_BITS-1:0] zeros;
    wire [SUM-1:0] normalised;

    hfp8_normalise #(.WIDTH(SUM)) normalise (absolute, normalised, zeros);

    assign zero = !infinite && absolute == 0;
    assign negative = infinite ? (x_infinite ? x_negative : y_negative) : major_negative != reversed;
    assign exponent = major_exponent + ONE - $signed({{(XW-COUNT_BITS){1'b0}}, zeros});
    assign significand = normalised;
endmodule
