// A weight-stationary array of ROWS x COLUMNS processing elements with a shadow plane, and the accumulators below it.
//
// In a cycle with `stream` it takes one row of A: the operands of all rows of elements (row 0 lowest), and where its sums
// are. They leave the array ROWS cycles later in column 0, and one cycle later from column to column. With `load` it takes
// one row of weights into the shadow plane, the lowest row first; `swap` with a row of A makes them the active ones.
// ROWS cycles load a block of weights, while another block computes. Skewing is done here.
//
//   address       of the row's sums in the accumulators
//   fresh         the sums start a chunk at +0; else they continue from the accumulators
//   close         they end a chunk: the running total takes it up
//   first_chunk   that is the sum's first chunk
//
// So a chunk's length is a multiple of the depth, ROWS * PRODUCTS, or there are no chunks. The accumulators hold the open
// chunk's sum and the running total of each output; they are read at `read_address`.

module hfp8_array (
    clk, mode, between_mode, saturate,
    load, load_row, weights, column_words, between_column_words,
    stream, swap, a, row_words, between_row_word, address, fresh, close, first_chunk,
    leaving, read_address, read_sums, read_totals
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
    parameter integer ADDRESS_BITS = 4;
    localparam integer A = PRODUCTS * code_bits(A_FORMAT);
    localparam integer B = PRODUCTS * code_bits(B_FORMAT);
    localparam integer C = code_bits(ACC_FORMAT);
    localparam integer T = code_bits(BETWEEN_FORMAT);
    localparam integer W = RANDOM_BITS;
    localparam integer ROW_BITS = larger(1, log2_ceiling(ROWS));

    input  clk;
    input  [3:0] mode;
    input  [3:0] between_mode;
    input  saturate;
    input  load;
    input  [ROW_BITS-1:0] load_row;
    input  [COLUMNS*B-1:0] weights;
    input  [COLUMNS*W-1:0] column_words;         // of the loaded row: ACCUMULATE_COLUMN
    input  [COLUMNS*W-1:0] between_column_words; // of the block, with its last row: BETWEEN_COLUMN
    input  stream;
    input  swap;
    input  [ROWS*A-1:0] a;
    input  [ROWS*W-1:0] row_words;               // ACCUMULATE_ROW
    input  [W-1:0] between_row_word;             // BETWEEN_ROW
    input  [ADDRESS_BITS-1:0] address;
    input  fresh;
    input  close;
    input  first_chunk;
    output [COLUMNS-1:0] leaving;                // columns whose sum leaves the array at the end of this cycle
    input  [ADDRESS_BITS-1:0] read_address;
    output [COLUMNS*C-1:0] read_sums;
    output [COLUMNS*T-1:0] read_totals;

    // -- control: column c works c cycles after column 0, and its sums leave ROWS cycles later

    localparam integer CONTROL = ADDRESS_BITS + W + 5;
    wire [CONTROL-1:0] control [0:ROWS+COLUMNS-1];
    wire [CONTROL-1:0] entering = {between_row_word, address, first_chunk, close, fresh, stream && swap, stream};

    genvar r, c, i;
    generate
        for (i = 0; i < ROWS + COLUMNS; i = i + 1) begin : pipeline
            if (i == 0)
                assign control[0] = entering;
            else
                hfp8_delay #(.WIDTH(CONTROL)) delay (clk, control[i-1], control[i]);
        end
    endgenerate

    // -- elements: wires into element (r, c) from the left, and from above

    wire swaps [0:ROWS*(COLUMNS+1)-1];
    wire [A-1:0] operands [0:ROWS*(COLUMNS+1)-1];
    wire [W-1:0] words [0:ROWS*(COLUMNS+1)-1];
    wire loads [0:(ROWS+1)*COLUMNS-1];
    wire [ROW_BITS-1:0] load_rows [0:(ROWS+1)*COLUMNS-1];
    wire [B-1:0] falling [0:(ROWS+1)*COLUMNS-1];
    wire [W-1:0] falling_words [0:(ROWS+1)*COLUMNS-1];
    wire [C-1:0] entering_sums [0:COLUMNS-1];
    wire [C-1:0] sums [0:ROWS*COLUMNS-1]; // below element (r, c)

    generate
        for (r = 0; r < ROWS; r = r + 1) begin : left
            localparam integer AT = r * (COLUMNS + 1);
            hfp8_delay #(.WIDTH(1 + A + W), .CYCLES(r)) skew (
                clk, {stream && swap, a[r*A +: A], row_words[r*W +: W]},
                {swaps[AT], operands[AT], words[AT]}
            );
        end

        for (c = 0; c < COLUMNS; c = c + 1) begin : above
            hfp8_delay #(.WIDTH(1 + ROW_BITS + B + W), .CYCLES(c)) skew (
                clk, {load, load_row, weights[c*B +: B], column_words[c*W +: W]},
                {loads[c], load_rows[c], falling[c], falling_words[c]}
            );
        end

        for (r = 0; r < ROWS; r = r + 1) begin : row
            for (c = 0; c < COLUMNS; c = c + 1) begin : column
                localparam integer LEFT = r * (COLUMNS + 1) + c;
                localparam integer ABOVE = r * COLUMNS + c;
                localparam integer BELOW = ABOVE + COLUMNS;
                wire [C-1:0] sum;
                if (r == 0)
                    assign sum = entering_sums[c];
                else
                    assign sum = sums[ABOVE-COLUMNS];

                hfp8_element #(
                    .A_FORMAT(A_FORMAT), .B_FORMAT(B_FORMAT), .ACC_FORMAT(ACC_FORMAT), .PRODUCTS(PRODUCTS),
                    .RANDOM_BITS(RANDOM_BITS), .ROW_BITS(ROW_BITS), .ROW(r)
                ) element (
                    clk, mode, saturate,
                    swaps[LEFT], operands[LEFT], words[LEFT],
                    loads[ABOVE], load_rows[ABOVE], falling[ABOVE], falling_words[ABOVE], sum,
                    swaps[LEFT+1], operands[LEFT+1], words[LEFT+1],
                    loads[BELOW], load_rows[BELOW], falling[BELOW], falling_words[BELOW], sums[ABOVE]
                );
            end
        end
    endgenerate

    // -- accumulators of each column

    generate
        for (c = 0; c < COLUMNS; c = c + 1) begin : accumulators
            reg [C-1:0] open_sums [0:(1<<ADDRESS_BITS)-1];
            reg [T-1:0] totals [0:(1<<ADDRESS_BITS)-1];

            // the row that enters column c, and the one that has left it
            // verilator lint_off UNUSEDSIGNAL
            wire [W-1:0] in_word;
            wire in_close, in_first, in_valid;
            wire out_fresh;
            // verilator lint_on UNUSEDSIGNAL
            wire in_fresh, in_swap;
            wire [ADDRESS_BITS-1:0] in_address, out_address;
            wire [W-1:0] out_word;
            wire out_first, out_close, out_swap, out_valid;
            assign {in_word, in_address, in_first, in_close, in_fresh, in_swap, in_valid} = control[c];
            assign {out_word, out_address, out_first, out_close, out_fresh, out_swap, out_valid} = control[ROWS+c];

            wire [C-1:0] leaving_sum = sums[(ROWS-1)*COLUMNS+c];
            wire again = out_valid && out_address == in_address; // its sum is not in the memory yet
            assign entering_sums[c] = in_fresh ? {C{1'b0}} : again ? leaving_sum : open_sums[in_address];
            assign leaving[c] = control[ROWS+c-1][0];

            // The block's word of this column: loaded, of the block that enters, of the block that leaves
            reg [W-1:0] loaded_word, in_column_word, out_column_word;
            wire [W-1:0] delayed_word;
            wire [W-1:0] column_word = out_swap ? in_column_word : out_column_word;
            hfp8_delay #(.WIDTH(W), .CYCLES(c)) skew (clk, between_column_words[c*W +: W], delayed_word);

            wire [T-1:0] summed;
            // verilator lint_off UNUSEDSIGNAL
            wire [3:0] flags;
            // verilator lint_on UNUSEDSIGNAL
            hfp8_total #(
                .ACC_FORMAT(ACC_FORMAT), .BETWEEN_FORMAT(BETWEEN_FORMAT), .RANDOM_BITS(RANDOM_BITS)
            ) accumulate (
                out_first, totals[out_address], leaving_sum, between_mode, saturate,
                out_word ^ column_word, summed, flags
            );

            always @(posedge clk) begin
                if (loads[c] && load_rows[c] == 0)
                    loaded_word <= delayed_word;
                if (in_swap)
                    in_column_word <= loaded_word;
                if (out_swap)
                    out_column_word <= in_column_word;
                if (out_valid)
                    open_sums[out_address] <= leaving_sum;
                if (out_valid && out_close)
                    totals[out_address] <= summed;
            end

            assign read_sums[c*C +: C] = open_sums[read_address];
            assign read_totals[c*T +: T] = totals[read_address];
        end
    endgenerate
endmodule
