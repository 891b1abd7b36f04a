// The array with its sequencer: executes matrix tiles from memories that answer in the same cycle.
// hfp8_sequencer.v explains commands and requests, hfp8_array.v operands and accumulators.

module hfp8_matrix (
    clk, reset, mode, between_mode, saturate,
    command_valid, command_ready, base, rows, blocks_n, blocks_k, chunk_blocks, phase, first_chunk, finish,
    load, load_row, load_n, load_k, load_command, weights, column_words, between_column_words,
    stream, stream_row, stream_n, stream_k, stream_command, a, row_words, between_row_word,
    idle, leaving, read_address, read_sums, read_totals
);
    `include "hfp8_format.vh"
    parameter [31:0] A_FORMAT = 32'h00b02464;       // hfp8-143
    parameter [31:0] B_FORMAT = 32'h00b02464;
    parameter [31:0] ACC_FORMAT = 32'h01f22526;     // dlfloat16
    parameter [31:0] BETWEEN_FORMAT = 32'h01f22526;
    parameter integer PRODUCTS = 1;
    parameter integer RANDOM_BITS = 13;
    parameter integer ROWS = 4;
    parameter integer COLUMNS = 4;
    parameter integer ADDRESS_BITS = 8;
    parameter integer N = 8;
    localparam integer A = PRODUCTS * code_bits(A_FORMAT);
    localparam integer B = PRODUCTS * code_bits(B_FORMAT);
    localparam integer W = RANDOM_BITS;
    localparam integer ROW_BITS = larger(1, log2_ceiling(ROWS));

    input  clk;
    input  reset;
    input  [3:0] mode;
    input  [3:0] between_mode;
    input  saturate;
    input  command_valid;
    output command_ready;
    input  [ADDRESS_BITS-1:0] base;
    input  [ADDRESS_BITS-1:0] rows;
    input  [N-1:0] blocks_n;
    input  [N-1:0] blocks_k;
    input  [N-1:0] chunk_blocks;
    input  [N-1:0] phase;
    input  first_chunk;
    input  finish;
    output load;
    output [ROW_BITS-1:0] load_row;
    output [N-1:0] load_n;
    output [N-1:0] load_k;
    output [N-1:0] load_command;
    input  [COLUMNS*B-1:0] weights;
    input  [COLUMNS*W-1:0] column_words;
    input  [COLUMNS*W-1:0] between_column_words;
    output stream;
    output [ADDRESS_BITS-1:0] stream_row;
    output [N-1:0] stream_n;
    output [N-1:0] stream_k;
    output [N-1:0] stream_command;
    input  [ROWS*A-1:0] a;
    input  [ROWS*W-1:0] row_words;
    input  [W-1:0] between_row_word;
    output idle;
    output [COLUMNS-1:0] leaving;
    input  [ADDRESS_BITS-1:0] read_address;
    output [COLUMNS*code_bits(ACC_FORMAT)-1:0] read_sums;
    output [COLUMNS*code_bits(BETWEEN_FORMAT)-1:0] read_totals;

    wire swap, fresh, close, first;
    wire [ADDRESS_BITS-1:0] address;

    hfp8_sequencer #(.ROWS(ROWS), .ADDRESS_BITS(ADDRESS_BITS), .N(N)) sequencer (
        clk, reset,
        command_valid, command_ready, base, rows, blocks_n, blocks_k, chunk_blocks, phase, first_chunk, finish,
        load, load_row, load_n, load_k, load_command,
        stream, swap, stream_row, stream_n, stream_k, stream_command, address, fresh, close, first, idle
    );

    hfp8_array #(
        .A_FORMAT(A_FORMAT), .B_FORMAT(B_FORMAT), .ACC_FORMAT(ACC_FORMAT), .BETWEEN_FORMAT(BETWEEN_FORMAT),
        .PRODUCTS(PRODUCTS), .RANDOM_BITS(RANDOM_BITS), .ROWS(ROWS), .COLUMNS(COLUMNS), .ADDRESS_BITS(ADDRESS_BITS)
    ) array (
        clk, mode, between_mode, saturate,
        load, load_row, weights, column_words, between_column_words,
        stream, swap, a, row_words, between_row_word, address, fresh, close, first,
        leaving, read_address, read_sums, read_totals
    );
endmodule
