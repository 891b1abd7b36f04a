// The one rounding: docs/numerics.md, section 2. Its steps have the same numbers here.
//
// The exact value X is (-1)^negative * significand * 2^(exponent - WIDTH + 1), plus something smaller than the lowest
// bit where `sticky` is set. The highest bit of the significand is set, unless X is zero, infinite or NaN.
//
// mode      0 nearest-even      1 nearest-away      2 toward-zero
//           3 toward-positive   4 toward-negative   5 to-odd
//           6, 7, 8 stochastic, variants A, B, C
// saturate  overflow policy: 1 saturate, 0 special
// random    R, the random bits of a stochastic rounding
// flags     8 invalid, 4 underflow, 2 overflow, 1 inexact

module hfp8_round (
    nan, infinite, zero, negative, exponent, significand, sticky, mode, saturate, random, code, flags
);
    `include "hfp8_format.vh"
    parameter [31:0] FORMAT = 32'h01f22526;
    parameter integer XW = 10;
    parameter integer WIDTH = 16;
    parameter integer RANDOM_BITS = 13;
    parameter [0:0] SUM = 1'b0; // a result that is zero is +0
    localparam integer F = fraction_bits(FORMAT);
    localparam integer M = magnitude_bits(FORMAT);
    localparam integer CODE_BITS = code_bits(FORMAT);
    localparam integer BIAS = bias_of(FORMAT);
    localparam integer NU = RANDOM_BITS + 2;  // bits of nu, step 3: the variants look no lower
    localparam integer KEPT = rounding_bits(FORMAT, RANDOM_BITS);
    localparam integer MW = XW + F + 1;       // bits of a magnitude with an unlimited exponent
    localparam signed [XW-1:0] ONE = 1;
    localparam [31:0] LARGEST = largest_magnitude(FORMAT);
    localparam [31:0] INFINITY = infinity_magnitude(FORMAT);
    localparam [31:0] NAN = nan_code(FORMAT);
    // Magnitude of the smallest number that is no subnormal
    localparam [31:0] SMALLEST =
        zero_rule(FORMAT) == ZERO_NONE ? 32'd0 :
        lowest_rule(FORMAT) == LOWEST_NORMAL ? 32'd1 : 32'd1 << F;

    input  nan;
    input  infinite;
    input  zero;
    input  negative;
    input  signed [XW-1:0] exponent;
    input  [WIDTH-1:0] significand;
    input  sticky;
    input  [3:0] mode;
    input  saturate;
    input  [RANDOM_BITS-1:0] random;
    output [CODE_BITS-1:0] code;
    output [3:0] flags;

    // -- the mode

    wire inward = mode == 4'd2 || (mode == 4'd3 && negative) || (mode == 4'd4 && !negative);

    // -- step 2: the quantum. `field` is the exponent field that X would have.

    wire [KEPT+WIDTH-1:0] padded = {significand, {KEPT{1'b0}}};
    wire [KEPT-1:0] upper = padded[KEPT+WIDTH-1:WIDTH];
    wire below_upper = sticky || padded[WIDTH-1:0] != 0;
    wire signed [XW-1:0] field = exponent + BIAS[XW-1:0];

    wire [KEPT-1:0] x;        // |X| in quanta, with NU bits after the point
    wire rest;                // is there more below?
    wire signed [XW-1:0] top; // exponent field of x, less its hidden bit

    // X shifted right by a distance that may be long
    wire [XW-1:0] distance;
    wire [XW-1:0] places = distance > KEPT[XW-1:0] ? KEPT[XW-1:0] : distance;
    wire [2*KEPT-1:0] shifted = {upper, {KEPT{1'b0}}} >> places;
    wire [KEPT-1:0] lowered = shifted[2*KEPT-1:KEPT];
    wire below_lowered = below_upper || shifted[KEPT-1:0] != 0;

    generate
        if (lowest_rule(FORMAT) == LOWEST_SUBNORMAL) begin : limited
            wire low = field < ONE;
            assign distance = low ? ONE - field : {XW{1'b0}};
            assign x = lowered;
            assign rest = below_lowered;
            assign top = low ? {XW{1'b0}} : field - ONE;
        end else begin : unlimited
            assign distance = field[XW-1] ? -field : {XW{1'b0}};
            assign x = upper;
            assign rest = below_upper;
            assign top = field - ONE;
        end
    endgenerate

    // -- step 3: the lower neighbour, its magnitude with an unlimited exponent, and nu

    wire signed [MW-1:0] lower =
        ($signed({{(F+1){top[XW-1]}}, top}) <<< F) + $signed({{XW{1'b0}}, x[KEPT-1:NU]});
    wire [NU-1:0] nu = x[NU-1:0];

    // -- step 4: away? All modes compare nu with a threshold; `tie` decides where both are equal.
    // A: floor(nu * 2^r) + R >= 2^r is nu >= T / 2^r with T = 2^r - R. B and C are the same with T - 1/2,
    // but in C the tie goes to the even neighbour of T - 1/2.

    wire [RANDOM_BITS:0] t = {1'b1, {RANDOM_BITS{1'b0}}} - {1'b0, random};
    reg [NU:0] threshold;
    reg tie;

    always @* begin
        threshold = {(NU+1){1'b0}};
        tie = 1'b0;
        case (mode)
            4'd0: begin threshold[NU-1] = 1'b1; tie = lower[0]; end
            4'd1: begin threshold[NU-1] = 1'b1; tie = 1'b1; end
            4'd6: begin threshold = {t, 2'b00}; tie = 1'b1; end
            4'd7: begin threshold = {t, 2'b00} - {{NU{1'b0}}, 1'b1} - {{NU{1'b0}}, 1'b1}; tie = 1'b1; end
            4'd8: begin threshold = {t, 2'b00} - {{NU{1'b0}}, 1'b1} - {{NU{1'b0}}, 1'b1}; tie = !t[0]; end
            default: ;
        endcase
    end

    wire odd_already = mode == 4'd5 && lower[0];
    wire away = !inward && !odd_already
        && ({1'b0, nu} > threshold || ({1'b0, nu} == threshold && (rest || tie)));
    wire signed [MW-1:0] upper_neighbour = lower + {{(MW-1){1'b0}}, 1'b1};
    wire signed [MW-1:0] chosen = away ? upper_neighbour : lower;

    // -- step 5: the lowest binade, where there are no subnormals. Below `min` the neighbours are 0 and `min`.

    wire signed [MW-1:0] finite; // the rounded magnitude, not yet limited
    wire below_min;

    generate
        if (lowest_rule(FORMAT) == LOWEST_SUBNORMAL) begin : gradual
            assign below_min = 1'b0;
            assign finite = chosen;
        end else begin : abrupt
            wire nearest = mode == 4'd0 || mode == 4'd1;
            wire stochastic = mode == 4'd6 || mode == 4'd7 || mode == 4'd8;

            // min in units of the quantum of the lowest binade, and the threshold in the same units
            localparam integer NW = NU + 1 + F + 2;
            localparam [F+1:0] MIN = lowest_rule(FORMAT) == LOWEST_NORMAL
                ? ({{(F+1){1'b0}}, 1'b1} << F) + {{(F+1){1'b0}}, 1'b1}
                : {{(F+1){1'b0}}, 1'b1} << (F + 1);
            wire [NW-1:0] limit = {{(F+2){1'b0}}, threshold} * {{(NU+1){1'b0}}, MIN};
            wire [NW-1:0] value = {{(NW-KEPT){1'b0}}, lowered};
            wire reaches = value > limit || (value == limit && (below_lowered || tie));
            wire to_min = zero_rule(FORMAT) == ZERO_NONE || (stochastic ? reaches : !inward);
            wire lost = chosen < $signed({{(MW-M){1'b0}}, SMALLEST[M-1:0]});

            assign below_min = lower < $signed({{(MW-M){1'b0}}, SMALLEST[M-1:0]});
            assign finite = (nearest && zero_rule(FORMAT) != ZERO_NONE)
                ? (lost ? {MW{1'b0}} : chosen)
                : below_min
                ? (to_min ? {{(MW-M){1'b0}}, SMALLEST[M-1:0]} : {MW{1'b0}})
                : chosen;
        end
    endgenerate

    // -- steps 1, 6 and 7: class, overflow, flags

    wire no_number; // the format has no number for X
    generate
        if (zero_rule(FORMAT) == ZERO_NONE)
            assign no_number = !nan && (zero || negative);
        else if (!is_signed(FORMAT))
            assign no_number = !nan && !zero && negative;
        else
            assign no_number = 1'b0;
    endgenerate

    wire number = !nan && !no_number && !infinite && !zero;
    wire too_large = number && finite > $signed({{(MW-M){1'b0}}, LARGEST[M-1:0]});
    wire clamped = saturate || (!infinite && (inward || mode == 4'd5));
    wire inexact = number && (nu != 0 || rest || below_min || too_large);
    wire infinite_lost = !nan && !no_number && infinite && (saturate || !has_infinity(FORMAT));

    reg [M-1:0] magnitude;
    reg not_a_number;

    always @* begin
        magnitude = finite[M-1:0];
        not_a_number = 1'b0;
        if (nan)
            not_a_number = 1'b1;
        else if (no_number) begin
            magnitude = {M{1'b0}};
            not_a_number = !saturate;
        end else if (infinite || too_large) begin
            if (clamped)
                magnitude = LARGEST[M-1:0];
            else begin
                magnitude = INFINITY[M-1:0];
                not_a_number = !has_infinity(FORMAT);
            end
        end else if (zero)
            magnitude = {M{1'b0}};
    end

    generate
        if (is_signed(FORMAT)) begin : with_sign
            wire is_zero = magnitude == 0 && zero_rule(FORMAT) != ZERO_NONE;
            wire plus = is_zero && (SUM || zero_rule(FORMAT) == ZERO_UNSIGNED);
            assign code = not_a_number ? NAN[CODE_BITS-1:0] : {negative && !plus, magnitude};
        end else begin : without_sign
            assign code = not_a_number ? NAN[CODE_BITS-1:0] : magnitude;
        end
    endgenerate

    // verilator lint_off UNSIGNED
    wire underflow = inexact && !too_large && magnitude < SMALLEST[M-1:0];
    // verilator lint_on UNSIGNED

    assign flags = {
        nan || no_number,
        underflow,
        too_large || infinite_lost,
        inexact || infinite_lost
    };
endmodule
