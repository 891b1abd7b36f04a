// Executes matrix tiles (MM of docs/isa.md) on the array: loads blocks of weights, and streams the rows of A through them.
//
// A command is a tile of `rows` rows of A, `blocks_n` blocks of columns and `blocks_k` blocks of k, as deep as the array. While
// a block computes, the next one loads, be it of the same command or of the one after. `chunk_blocks` blocks of k are
// a chunk (0: no chunks). `phase` blocks of the open chunk and `first_chunk` tell where the sums are when the command
// begins, and `finish` that they end with it.
//
// A block's weights are asked for by command, block and row (`load_...`), and so are rows of A (`stream_...`); the memories
// answer in the same cycle. `address` is the place of a row's sums: from `base` on, blocks of columns one after the other.

module hfp8_sequencer (
    clk, reset,
    command_valid, command_ready, base, rows, blocks_n, blocks_k, chunk_blocks, phase, first_chunk, finish,
    load, load_row, load_n, load_k, load_command,
    stream, swap, stream_row, stream_n, stream_k, stream_command, address, fresh, close, first, idle
);
    `include "hfp8_format.vh"
    parameter integer ROWS = 4;
    parameter integer ADDRESS_BITS = 4;
    parameter integer N = 8;     // bits of numbers of blocks
    localparam integer ROW_BITS = larger(1, log2_ceiling(ROWS));
    localparam integer LAST_ROW = ROWS - 1;

    input  clk;
    input  reset;
    input  command_valid;
    output command_ready;
    input  [ADDRESS_BITS-1:0] base; // first address of the sums
    input  [ADDRESS_BITS-1:0] rows; // at least 1
    input  [N-1:0] blocks_n;        // at least 1
    input  [N-1:0] blocks_k;        // at least 1
    input  [N-1:0] chunk_blocks;
    input  [N-1:0] phase;
    input  first_chunk;
    input  finish;
    output load;
    output [ROW_BITS-1:0] load_row;
    output [N-1:0] load_n;
    output [N-1:0] load_k;
    output [N-1:0] load_command;    // commands before this one, modulo 2^N
    output stream;
    output swap;
    output [ADDRESS_BITS-1:0] stream_row;
    output [N-1:0] stream_n;
    output [N-1:0] stream_k;
    output [N-1:0] stream_command;
    output [ADDRESS_BITS-1:0] address;
    output fresh;
    output close;
    output first;
    output idle;

    // -- the block that is loaded next: a place in a command

    reg holding;                    // is there a command?
    reg [ADDRESS_BITS-1:0] h_rows;
    reg [N-1:0] h_blocks_n, h_blocks_k, h_phase, h_command;
    reg h_first, h_finish;
    reg [N-1:0] at_n, at_k, at_phase;
    reg at_first;
    reg [ADDRESS_BITS-1:0] at_base; // first address of the block's sums
    reg [ROW_BITS-1:0] loading_row; // counts down

    wire last_k = at_k == h_blocks_k - {{(N-1){1'b0}}, 1'b1};
    wire last_n = at_n == h_blocks_n - {{(N-1){1'b0}}, 1'b1};
    wire chunked = chunk_blocks != 0;
    wire chunk_full = at_phase == chunk_blocks - {{(N-1){1'b0}}, 1'b1};

    // -- the block in the shadow plane, and the one that computes

    reg loaded;                     // is there a block in the shadow plane?
    reg [ADDRESS_BITS-1:0] l_rows, l_base;
    reg [N-1:0] l_n, l_k, l_command;
    reg l_fresh, l_close, l_first;
    reg streaming;                  // has the block more rows?
    reg [ADDRESS_BITS-1:0] s_rows, s_base, s_row;
    reg [N-1:0] s_n, s_k, s_command;
    reg s_fresh, s_close, s_first;

    wire starts = loaded && !streaming;
    assign load = holding && (!loaded || starts || loading_row != LAST_ROW[ROW_BITS-1:0]);
    wire load_ends = load && loading_row == 0;
    assign command_ready = !holding || (load_ends && last_k && last_n);

    assign load_row = loading_row;
    assign load_n = at_n;
    assign load_k = at_k;
    assign load_command = h_command;

    always @(posedge clk)
        if (reset) begin
            holding <= 1'b0;
            h_command <= {N{1'b1}};
            loading_row <= LAST_ROW[ROW_BITS-1:0];
        end else begin
            if (load)
                loading_row <= load_ends ? LAST_ROW[ROW_BITS-1:0] : loading_row - {{(ROW_BITS-1){1'b0}}, 1'b1};
            if (command_ready) begin
                holding <= command_valid;
                if (command_valid) begin
                    h_rows <= rows;
                    h_blocks_n <= blocks_n;
                    h_blocks_k <= blocks_k;
                    h_phase <= phase;
                    h_first <= first_chunk;
                    h_finish <= finish;
                    h_command <= h_command + {{(N-1){1'b0}}, 1'b1};
                    at_n <= {N{1'b0}};
                    at_k <= {N{1'b0}};
                    at_phase <= phase;
                    at_first <= first_chunk;
                    at_base <= base;
                end
            end else if (load_ends) begin
                at_k <= last_k ? {N{1'b0}} : at_k + {{(N-1){1'b0}}, 1'b1};
                at_phase <= last_k ? h_phase : chunk_full ? {N{1'b0}} : at_phase + {{(N-1){1'b0}}, 1'b1};
                at_first <= last_k ? h_first : at_first && !(chunked && chunk_full);
                if (last_k) begin
                    at_n <= at_n + {{(N-1){1'b0}}, 1'b1};
                    at_base <= at_base + h_rows;
                end
            end
        end

    always @(posedge clk)
        if (reset)
            loaded <= 1'b0;
        else if (load_ends) begin
            loaded <= 1'b1;
            l_rows <= h_rows;
            l_base <= at_base;
            l_n <= at_n;
            l_k <= at_k;
            l_command <= h_command;
            // Without chunks, the sums start with the first block of all.
            l_fresh <= at_phase == 0 && (chunked || (at_first && at_k == 0));
            l_close <= chunked && (chunk_full || (h_finish && last_k));
            l_first <= at_first;
        end else if (starts)
            loaded <= 1'b0;

    // -- rows of A: the first one comes with the block's start

    wire [ADDRESS_BITS-1:0] rows_now = starts ? l_rows : s_rows;
    wire [ADDRESS_BITS-1:0] row_now = starts ? {ADDRESS_BITS{1'b0}} : s_row;
    assign stream = starts || streaming;
    assign swap = starts;
    assign stream_row = row_now;
    assign stream_n = starts ? l_n : s_n;
    assign stream_k = starts ? l_k : s_k;
    assign stream_command = starts ? l_command : s_command;
    assign address = (starts ? l_base : s_base) + row_now;
    assign fresh = starts ? l_fresh : s_fresh;
    assign close = starts ? l_close : s_close;
    assign first = starts ? l_first : s_first;
    assign idle = !holding && !loaded && !streaming;

    always @(posedge clk)
        if (reset)
            streaming <= 1'b0;
        else if (stream) begin
            streaming <= row_now + {{(ADDRESS_BITS-1){1'b0}}, 1'b1} != rows_now;
            s_row <= row_now + {{(ADDRESS_BITS-1){1'b0}}, 1'b1};
            s_rows <= rows_now;
            s_base <= starts ? l_base : s_base;
            s_n <= stream_n;
            s_k <= stream_k;
            s_command <= stream_command;
            s_fresh <= fresh;
            s_close <= close;
            s_first <= first;
        end
endmodule
