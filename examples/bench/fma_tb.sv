// A unit of your own in SystemVerilog, compared with libhfp8_ref through DPI-C. Here it is hfp8_fma of rtl/:
// put yours in its place. docs/rtl.md has the commands.
`timescale 1ns / 1ns

module fma_tb;
  import hfp8_ref_pkg::*;

  localparam int RANDOM_BITS = 13;
  localparam int CASES = 200_000;

  logic [7:0] a, b;
  logic [15:0] acc, result;
  logic [3:0] mode, flags;
  logic saturate;
  logic [RANDOM_BITS-1:0] random;

  hfp8_fma #(
      .A_FORMAT(HFP8_FORMAT_HFP8_143),
      .B_FORMAT(HFP8_FORMAT_HFP8_152),
      .ACC_FORMAT(HFP8_FORMAT_DLFLOAT16),
      .RANDOM_BITS(RANDOM_BITS)
  ) dut (
      .a(a), .b(b), .acc(acc), .mode(mode), .saturate(saturate), .random(random),
      .result(result), .flags(flags)
  );

  int unsigned expected, expected_flags;
  int wrong = 0;

  // The accumulator: any code; the largest numbers; or beside minus the product, so that the sum cancels.
  function automatic logic [15:0] accumulator();
    int unsigned product, ignored;
    if ($urandom_range(1) == 0) return 16'($urandom);
    if ($urandom_range(3) == 0) return {1'($urandom), 15'h7ffe};
    product = hfp8_fma(HFP8_FORMAT_HFP8_143, 32'(a), HFP8_FORMAT_HFP8_152, 32'(b), HFP8_FORMAT_DLFLOAT16, 0,
                       REF_NEAREST_EVEN, REF_SATURATE, 0, 0, ignored);
    return 16'(product ^ 32'h8000) + 16'($urandom_range(8)) - 16'd4;
  endfunction

  initial begin
    $display("libhfp8_ref %s", hfp8_version());
    repeat (CASES) begin
      a = 8'($urandom);
      b = 8'($urandom);
      acc = accumulator();
      mode = 4'($urandom_range(8));
      saturate = 1'($urandom);
      random = RANDOM_BITS'($urandom);
      #1;
      expected = hfp8_fma(HFP8_FORMAT_HFP8_143, 32'(a), HFP8_FORMAT_HFP8_152, 32'(b), HFP8_FORMAT_DLFLOAT16,
                          32'(acc), 32'(mode), saturate ? REF_SATURATE : REF_SPECIAL, RANDOM_BITS, 32'(random),
                          expected_flags);
      if (((32'(result) ^ expected) & hfp8_defined_bits(HFP8_FORMAT_DLFLOAT16, expected)) != 0
          || 32'(flags) != expected_flags) begin
        wrong++;
        if (wrong <= 5)
          $display("%h + %h * %h, mode %0d: %h, flags %h, instead of %h, flags %h", acc, a, b, mode, result,
                   flags, 16'(expected), 4'(expected_flags));
      end
    end
    $display("%0d of %0d wrong", wrong, CASES);
    if (wrong != 0) $fatal(1, "the unit differs from the reference");
    $finish;
  end
endmodule
