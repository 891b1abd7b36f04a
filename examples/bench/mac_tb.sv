// A chunk accumulator of your own, compared with libhfp8_ref sum by sum: a scoreboard that takes streams of products.
// Here it is hfp8_mac of rtl/: put yours in its place. docs/rtl.md has the commands.
`timescale 1ns / 1ns

module mac_tb;
  import hfp8_ref_pkg::*;

  localparam int SUMS = 400;
  localparam int CHUNK = 32;  // products; hfp8_mac counts at most 255

  logic clk = 0, valid = 0, first = 0, last = 0;
  logic [7:0] a, b;
  logic closing, done;
  logic [15:0] result;
  logic [3:0] flags;

  hfp8_mac dut (
      .clk(clk), .valid(valid), .first(first), .last(last), .chunk_steps(8'(CHUNK)), .a(a), .b(b),
      .mode(4'(REF_NEAREST_AWAY)), .between_mode(4'(REF_NEAREST_AWAY)), .saturate(1'b0), .random('0),
      .between_random('0), .closing(closing), .done(done), .result(result), .flags(flags)
  );

  always #1 clk = !clk;

  // -- the scoreboard: results and flags of the reference, in order

  int unsigned expected[$], expected_flags[$];
  int compared = 0, wrong = 0;

  always @(negedge clk)
    if (done) begin
      if (((32'(result) ^ expected[0]) & hfp8_defined_bits(HFP8_FORMAT_DLFLOAT16, expected[0])) != 0
          || 32'(flags) != expected_flags[0]) begin
        wrong++;
        if (wrong <= 5)
          $display("sum %0d: %h, flags %h, instead of %h, flags %h", compared, result, flags,
                   16'(expected[0]), 4'(expected_flags[0]));
      end
      void'(expected.pop_front());
      void'(expected_flags.pop_front());
      compared++;
    end

  // -- the stimuli

  int profile, mac, problem;
  int unsigned raised;

  initial begin
    $display("libhfp8_ref %s", hfp8_version());
    profile = hfp8_profile_copy(HFP8_PROFILE_HFP8_FWD);
    problem = hfp8_profile_set(profile, HFP8_CHUNK_LENGTH, 32'(CHUNK));
    if (problem != 0 || hfp8_profile_problem(profile) != "") $fatal(1, "%s", hfp8_profile_problem(profile));
    for (int i = 0; i < SUMS; i++) begin
      int products = $urandom_range(1, 200);
      mac = hfp8_mac_open(profile, 0, 0, 0, 0);
      for (int k = 0; k < products; k++) begin
        @(negedge clk);
        valid = $urandom_range(7) != 0;
        while (!valid) begin  // a bubble
          @(negedge clk);
          valid = $urandom_range(7) != 0;
        end
        a = 8'($urandom);
        b = 8'($urandom);
        first = k == 0;
        last = k == products - 1;
        void'(hfp8_mac_push(mac, 32'(a), 32'(b)));
      end
      expected.push_back(hfp8_mac_close(mac, raised));
      expected_flags.push_back(raised);
    end
    @(negedge clk) valid = 0;
    repeat (4) @(negedge clk);
    $display("%0d of %0d wrong", wrong, compared);
    if (wrong != 0 || compared != SUMS) $fatal(1, "the unit differs from the reference");
    $finish;
  end
endmodule
