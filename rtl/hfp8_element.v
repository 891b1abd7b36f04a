// One processing element of the array: a weight-stationary multiply-accumulate unit with a shadow register.
//
// Operands of A come from the left and leave to the right one cycle later; sums come from above and leave below one cycle
// later. With `swap` the shadow weight becomes the active one, first for the operand that comes with it. Weights come
// from above, the lowest row's first: with `load` the shadow register takes one if its row is here or
// further down, and shows it to the element below.
//
// R of the rounding is the row's word, which travels with A, xor the column's word, which stays with the weight.

module hfp8_element (
    clk, mode, saturate,
    swap, a, row_word, load, load_row, weight, column_word, sum,
    swap_out, a_out, row_word_out, load_out, load_row_out, weight_out, column_word_out, sum_out
);
    `include "hfp8_format.vh"
    parameter [31:0] A_FORMAT = 32'h00b02464;   // hfp8-143
    parameter [31:0] B_FORMAT = 32'h00b02464;
    parameter [31:0] ACC_FORMAT = 32'h01f22526; // dlfloat16
    parameter integer PRODUCTS = 1;
    parameter integer RANDOM_BITS = 13;
    parameter integer ROW_BITS = 2;
    parameter integer ROW = 0; // of this element
    localparam integer A = PRODUCTS * code_bits(A_FORMAT);
    localparam integer B = PRODUCTS * code_bits(B_FORMAT);
    localparam integer C = code_bits(ACC_FORMAT);

    input  clk;
    input  [3:0] mode;
    input  saturate;
    input  swap;
    input  [A-1:0] a;
    input  [RANDOM_BITS-1:0] row_word;
    input  load;
    input  [ROW_BITS-1:0] load_row; // of the weight
    input  [B-1:0] weight;
    input  [RANDOM_BITS-1:0] column_word;
    input  [C-1:0] sum;
    output reg swap_out;
    output reg [A-1:0] a_out;
    output reg [RANDOM_BITS-1:0] row_word_out;
    output reg load_out;
    output reg [ROW_BITS-1:0] load_row_out;
    output [B-1:0] weight_out;
    output [RANDOM_BITS-1:0] column_word_out;
    output reg [C-1:0] sum_out;

    reg [B+RANDOM_BITS-1:0] shadow;
    reg [B+RANDOM_BITS-1:0] active;
    wire [B-1:0] b;
    wire [RANDOM_BITS-1:0] word;
    wire [C-1:0] stepped;
    // verilator lint_off UNUSEDSIGNAL
    wire [3:0] flags;
    // verilator lint_on UNUSEDSIGNAL

    assign {word, b} = swap ? shadow : active;
    assign {column_word_out, weight_out} = shadow;

    hfp8_step #(
        .A_FORMAT(A_FORMAT), .B_FORMAT(B_FORMAT), .ACC_FORMAT(ACC_FORMAT),
        .PRODUCTS(PRODUCTS), .RANDOM_BITS(RANDOM_BITS)
    ) step (a, b, sum, mode, saturate, row_word ^ word, stepped, flags);

    localparam integer ABOVE = ROW - 1;
    wire here = ROW == 0 || load_row > ABOVE[ROW_BITS-1:0]; // is the weight for this row, or further down?

    always @(posedge clk) begin
        if (load && here)
            shadow <= {column_word, weight};
        if (swap)
            active <= shadow;
        swap_out <= swap;
        a_out <= a;
        row_word_out <= row_word;
        load_out <= load;
        load_row_out <= load_row;
        sum_out <= stepped;
    end
endmodule
