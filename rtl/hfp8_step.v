// One step of a sum with one product (fma) or two (fmma). a and b hold the first product in their lower halves.

module hfp8_step (a, b, acc, mode, saturate, random, result, flags);
    `include "hfp8_format.vh"
    parameter [31:0] A_FORMAT = 32'h00b02464;   // hfp8-143
    parameter [31:0] B_FORMAT = 32'h00b02464;
    parameter [31:0] ACC_FORMAT = 32'h01f22526; // dlfloat16
    parameter integer PRODUCTS = 1;             // 1 or 2
    parameter integer RANDOM_BITS = 13;
    localparam integer A = code_bits(A_FORMAT);
    localparam integer B = code_bits(B_FORMAT);

    input  [PRODUCTS*A-1:0] a;
    input  [PRODUCTS*B-1:0] b;
    input  [code_bits(ACC_FORMAT)-1:0] acc;
    input  [3:0] mode;
    input  saturate;
    input  [RANDOM_BITS-1:0] random;
    output [code_bits(ACC_FORMAT)-1:0] result;
    output [3:0] flags;

    generate
        if (PRODUCTS == 1) begin : one
            hfp8_fma #(
                .A_FORMAT(A_FORMAT), .B_FORMAT(B_FORMAT), .ACC_FORMAT(ACC_FORMAT), .RANDOM_BITS(RANDOM_BITS)
            ) fma (a, b, acc, mode, saturate, random, result, flags);
        end else begin : two
            hfp8_fmma #(
                .A_FORMAT(A_FORMAT), .B_FORMAT(B_FORMAT), .ACC_FORMAT(ACC_FORMAT), .RANDOM_BITS(RANDOM_BITS)
            ) fmma (
                a[A-1:0], b[B-1:0], a[2*A-1:A], b[2*B-1:B],
                acc, mode, saturate, random, result, flags
            );
        end
    endgenerate
endmodule
