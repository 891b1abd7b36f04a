// The random source `lfsr`: a Galois register of 32 bits, docs/numerics.md, section 4.
//
// It is stepped once per rounding. So that two roundings can happen in one cycle, it shows the words of the next two
// steps, and `steps` says how many of them were used. `load` starts it at `seed`, or at 1 where that is 0.

module hfp8_lfsr (clk, load, seed, steps, first_word, second_word);
    input  clk;
    input  load;
    input  [31:0] seed;
    input  [1:0] steps; // 0, 1 or 2
    output [31:0] first_word;
    output [31:0] second_word;

    reg [31:0] x;

    function [31:0] step(input [31:0] from);
        step = {1'b0, from[31:1]} ^ (from[0] ? 32'h80200003 : 32'h0);
    endfunction

    assign first_word = step(x);
    assign second_word = step(first_word);

    always @(posedge clk)
        if (load)
            x <= seed == 0 ? 32'd1 : seed;
        else if (steps == 2'd1)
            x <= first_word;
        else if (steps == 2'd2)
            x <= second_word;
endmodule
