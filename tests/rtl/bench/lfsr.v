// hfp8_lfsr from the seed 0, which starts it at 1: prints the words of 8 steps, then of two steps at once.

`timescale 1ns / 1ps

module lfsr;
    reg clk, load;
    reg [31:0] seed;
    reg [1:0] steps;
    wire [31:0] first_word, second_word;
    integer i;

    hfp8_lfsr dut (clk, load, seed, steps, first_word, second_word);

    task cycle;
        begin
            #1 clk = 1;
            #1 clk = 0;
        end
    endtask

    initial begin
        clk = 0;
        load = 1;
        seed = 0;
        steps = 1;
        cycle;
        load = 0;
        for (i = 0; i < 8; i = i + 1) begin
            $display("%h", first_word);
            cycle;
        end
        steps = 2;
        for (i = 0; i < 4; i = i + 1) begin
            $display("%h", first_word);
            $display("%h", second_word);
            cycle;
        end
        $finish;
    end
endmodule
