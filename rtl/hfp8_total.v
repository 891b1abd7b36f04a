// The running total of chunks: the first chunk is copied into the total's format, later ones are added.
// docs/numerics.md, section 3.

module hfp8_total (first, total, chunk, mode, saturate, random, result, flags);
    `include "hfp8_format.vh"
    parameter [31:0] ACC_FORMAT = 32'h01f22526;     // dlfloat16
    parameter [31:0] BETWEEN_FORMAT = 32'h01f22526;
    parameter integer RANDOM_BITS = 13;
    localparam integer C = code_bits(ACC_FORMAT);
    localparam integer T = code_bits(BETWEEN_FORMAT);

    input  first;
    input  [T-1:0] total;
    input  [C-1:0] chunk;
    input  [3:0] mode;
    input  saturate;
    input  [RANDOM_BITS-1:0] random;
    output [T-1:0] result;
    output [3:0] flags;

    wire [T-1:0] copy, sum;
    wire [3:0] copy_flags, sum_flags;

    generate
        if (ACC_FORMAT == BETWEEN_FORMAT) begin : same
            assign copy = chunk;
            assign copy_flags = 4'd0;
        end else begin : other
            hfp8_convert #(
                .SOURCE(ACC_FORMAT), .TARGET(BETWEEN_FORMAT), .RANDOM_BITS(RANDOM_BITS)
            ) convert (chunk, mode, saturate, random, copy, copy_flags);
        end
    endgenerate

    hfp8_add #(
        .TOTAL_FORMAT(BETWEEN_FORMAT), .ADDEND_FORMAT(ACC_FORMAT), .RANDOM_BITS(RANDOM_BITS)
    ) add (total, chunk, mode, saturate, random, sum, sum_flags);

    assign result = first ? copy : sum;
    assign flags = first ? copy_flags : sum_flags;
endmodule
