// The chunk accumulator, the multiply-accumulate unit of a processing element: docs/numerics.md, section 3.
//
// In a cycle with `valid` it takes a step of PRODUCTS products. The step with `first` starts a new sum, the step with
// `last` ends it. After `chunk_steps` steps a chunk ends (0: no chunks). The running total takes up a chunk in the
// cycle after the chunk's last step, while the next chunk begins. `closing` says that it does so in this cycle.
//
// `done` marks the cycle in which `result` is complete: the cycle after the last step without chunks, else the one
// after that. A step may start the next sum in any cycle after the last one. `flags` is the union over a sum's
// roundings, complete with `done`.

module hfp8_mac (
    clk, valid, first, last, chunk_steps, a, b,
    mode, between_mode, saturate, random, between_random,
    closing, done, result, flags
);
    `include "hfp8_format.vh"
    parameter [31:0] A_FORMAT = 32'h00b02464;       // hfp8-143
    parameter [31:0] B_FORMAT = 32'h00b02464;
    parameter [31:0] ACC_FORMAT = 32'h01f22526;     // dlfloat16
    parameter [31:0] BETWEEN_FORMAT = 32'h01f22526;
    parameter integer PRODUCTS = 1;
    parameter integer RANDOM_BITS = 13;
    parameter integer COUNTER_BITS = 8;
    localparam integer C = code_bits(ACC_FORMAT);
    localparam integer T = code_bits(BETWEEN_FORMAT);
    localparam integer RESULT = larger(C, T);

    input  clk;
    input  valid;
    input  first;
    input  last;
    input  [COUNTER_BITS-1:0] chunk_steps;
    input  [PRODUCTS*code_bits(A_FORMAT)-1:0] a;
    input  [PRODUCTS*code_bits(B_FORMAT)-1:0] b;
    input  [3:0] mode;
    input  [3:0] between_mode;
    input  saturate;
    input  [RANDOM_BITS-1:0] random;
    input  [RANDOM_BITS-1:0] between_random;
    output closing;
    output done;
    output [RESULT-1:0] result;
    output [3:0] flags;

    // -- inside a chunk

    reg [C-1:0] acc;
    reg [COUNTER_BITS-1:0] taken; // steps of the open chunk
    reg chunk_open;
    reg first_chunk;
    reg [3:0] acc_flags;          // of the sum so far

    wire fresh = first || !chunk_open;
    wire in_first_chunk = first || (first_chunk && chunk_open);
    wire [COUNTER_BITS-1:0] number = (fresh ? {COUNTER_BITS{1'b0}} : taken) + {{(COUNTER_BITS-1){1'b0}}, 1'b1};
    wire chunked = chunk_steps != 0;
    wire chunk_ends = chunked && (last || number == chunk_steps);
    wire [C-1:0] stepped;
    wire [3:0] step_flags;

    hfp8_step #(
        .A_FORMAT(A_FORMAT), .B_FORMAT(B_FORMAT), .ACC_FORMAT(ACC_FORMAT),
        .PRODUCTS(PRODUCTS), .RANDOM_BITS(RANDOM_BITS)
    ) step (a, b, fresh ? {C{1'b0}} : acc, mode, saturate, random, stepped, step_flags);

    always @(posedge clk)
        if (valid) begin
            acc <= stepped;
            taken <= number;
            chunk_open <= !chunk_ends;
            first_chunk <= in_first_chunk;
            acc_flags <= step_flags | (first ? 4'd0 : acc_flags);
        end

    // -- between chunks, one cycle later

    reg close;
    reg close_first; // the sum's first chunk
    reg close_last;  // the sum ends
    reg end_plain;   // a sum without chunks has ended
    reg [T-1:0] total;
    reg [3:0] total_flags;
    reg complete;
    wire [T-1:0] summed;
    wire [3:0] sum_flags;

    hfp8_total #(
        .ACC_FORMAT(ACC_FORMAT), .BETWEEN_FORMAT(BETWEEN_FORMAT), .RANDOM_BITS(RANDOM_BITS)
    ) accumulate (close_first, total, acc, between_mode, saturate, between_random, summed, sum_flags);

    always @(posedge clk) begin
        close <= valid && chunk_ends;
        close_first <= in_first_chunk;
        close_last <= valid && last && chunked;
        end_plain <= valid && last && !chunked;
        complete <= close_last;
        if (close) begin
            total <= summed;
            total_flags <= acc_flags | sum_flags | (close_first ? 4'd0 : total_flags);
        end
    end

    assign closing = close;
    assign done = complete || end_plain;
    assign result = complete ? {{(RESULT-T){1'b0}}, total} : {{(RESULT-C){1'b0}}, acc};
    assign flags = complete ? total_flags : acc_flags;
endmodule
