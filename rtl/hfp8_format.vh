// Facts of a number format, as constant functions of its 32-bit word. Include this file inside a module.
//
// The word is the one that the machine's registers hold (docs/isa.md, "Formats as words"):
//
//   31..20 bias   17..15 special   14..13 lowest   12..11 zero   10 signed   9..5 F   4..0 E
//
// E must be 1 to 8, and E + F at most 31.

// verilator lint_off UNUSEDPARAM
// verilator lint_off VARHIDDEN

// Numbers of the rules, docs/numerics.md, section 1
localparam [2:0] SPECIAL_NONE           = 3'd0;
localparam [2:0] SPECIAL_IEEE           = 3'd1;
localparam [2:0] SPECIAL_FN             = 3'd2;
localparam [2:0] SPECIAL_FNUZ           = 3'd3;
localparam [2:0] SPECIAL_NAN_INF        = 3'd4;
localparam [2:0] SPECIAL_P3109_EXTENDED = 3'd5;
localparam [2:0] SPECIAL_P3109_FINITE   = 3'd6;
localparam [1:0] LOWEST_SUBNORMAL       = 2'd0;
localparam [1:0] LOWEST_NORMAL          = 2'd1;
localparam [1:0] LOWEST_FLUSH           = 2'd2;
localparam [1:0] ZERO_SIGNED            = 2'd0;
localparam [1:0] ZERO_UNSIGNED          = 2'd1;
localparam [1:0] ZERO_NONE              = 2'd2;

// verilator lint_on UNUSEDPARAM
// verilator lint_off UNUSED
// Each function reads some fields of the word.

function integer exponent_bits(input [31:0] format);
    exponent_bits = {27'b0, format[4:0]};
endfunction

function integer fraction_bits(input [31:0] format);
    fraction_bits = {27'b0, format[9:5]};
endfunction

function is_signed(input [31:0] format);
    is_signed = format[10];
endfunction

function [1:0] zero_rule(input [31:0] format);
    zero_rule = format[12:11];
endfunction

function [1:0] lowest_rule(input [31:0] format);
    lowest_rule = format[14:13];
endfunction

function [2:0] special_rule(input [31:0] format);
    special_rule = format[17:15];
endfunction

function integer bias_of(input [31:0] format);
    bias_of = {{20{format[31]}}, format[31:20]};
endfunction

// verilator lint_on UNUSED

// Bits of a code without its sign, and with it
function integer magnitude_bits(input [31:0] format);
    magnitude_bits = exponent_bits(format) + fraction_bits(format);
endfunction

function integer code_bits(input [31:0] format);
    code_bits = magnitude_bits(format) + (is_signed(format) ? 1 : 0);
endfunction

// All ones in the magnitude
function [31:0] top_magnitude(input [31:0] format);
    top_magnitude = (32'd1 << magnitude_bits(format)) - 32'd1;
endfunction

// -- the table of special codes

function has_infinity(input [31:0] format);
    has_infinity = special_rule(format) == SPECIAL_IEEE
        || special_rule(format) == SPECIAL_P3109_EXTENDED;
endfunction

function has_nan(input [31:0] format);
    has_nan = special_rule(format) != SPECIAL_NONE;
endfunction

// Whether NaN is the code of -0
function nan_is_minus_zero(input [31:0] format);
    nan_is_minus_zero = special_rule(format) == SPECIAL_FNUZ
        || (is_signed(format) && (special_rule(format) == SPECIAL_P3109_EXTENDED
                                  || special_rule(format) == SPECIAL_P3109_FINITE));
endfunction

// Magnitude of infinity, where there is one
function [31:0] infinity_magnitude(input [31:0] format);
    if (special_rule(format) == SPECIAL_IEEE)
        infinity_magnitude = ((32'd1 << exponent_bits(format)) - 32'd1) << fraction_bits(format);
    else
        infinity_magnitude = top_magnitude(format) - (is_signed(format) ? 32'd0 : 32'd1);
endfunction

// Magnitude of the largest number
function [31:0] largest_magnitude(input [31:0] format);
    case (special_rule(format))
        SPECIAL_NONE, SPECIAL_FNUZ:
            largest_magnitude = top_magnitude(format);
        SPECIAL_IEEE, SPECIAL_P3109_EXTENDED:
            largest_magnitude = infinity_magnitude(format) - 32'd1;
        SPECIAL_P3109_FINITE:
            largest_magnitude = top_magnitude(format) - (is_signed(format) ? 32'd0 : 32'd1);
        default:
            largest_magnitude = top_magnitude(format) - 32'd1;
    endcase
endfunction

// The NaN that is produced, a whole code; 0 where there is none
function [31:0] nan_code(input [31:0] format);
    if (!has_nan(format))
        nan_code = 32'd0;
    else if (nan_is_minus_zero(format))
        nan_code = 32'd1 << magnitude_bits(format);
    else if (special_rule(format) == SPECIAL_IEEE)
        nan_code = infinity_magnitude(format) | (32'd1 << (fraction_bits(format) - 1));
    else
        nan_code = top_magnitude(format);
endfunction

// -- exponents: floor(log2) of the smallest and of the largest positive number, or a bound

function integer lowest_exponent(input [31:0] format);
    case (lowest_rule(format))
        LOWEST_SUBNORMAL: lowest_exponent = 1 - bias_of(format) - fraction_bits(format);
        LOWEST_FLUSH:     lowest_exponent = 1 - bias_of(format);
        default:          lowest_exponent = 0 - bias_of(format);
    endcase
endfunction

function integer highest_exponent(input [31:0] format);
    highest_exponent = (1 << exponent_bits(format)) - 1 - bias_of(format);
endfunction

// -- widths

function integer larger(input integer one, input integer other);
    larger = one > other ? one : other;
endfunction

// Bits that count to n - 1
function integer log2_ceiling(input integer n);
    begin
        log2_ceiling = 0;
        while ((1 << log2_ceiling) < n)
            log2_ceiling = log2_ceiling + 1;
    end
endfunction

// Bits of the magnitude of a format's exponents, and of its bias
function integer exponent_range(input [31:0] format);
    exponent_range = larger(
        log2_ceiling(larger(bias_of(format), 0 - bias_of(format)) + fraction_bits(format) + 1),
        exponent_bits(format)
    ) + 1;
endfunction

// Bits of a signed exponent that holds sums of a few exponents of two formats, and distances in `width` bits
function integer exponent_width(input [31:0] one, input [31:0] other, input integer width);
    exponent_width = larger(
        larger(exponent_range(one), exponent_range(other)), log2_ceiling(width)
    ) + 3;
endfunction

// Bits of a significand that a rounding looks at: F + 1 kept ones, r random ones, two more
function integer rounding_bits(input [31:0] format, input integer random_bits);
    rounding_bits = fraction_bits(format) + 1 + random_bits + 2;
endfunction

// verilator lint_on VARHIDDEN
