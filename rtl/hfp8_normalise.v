// Shifts a number left until its highest bit is set, and counts the places.
// For x = 0 the result is 0, and the count means nothing.

module hfp8_normalise (x, y, count);
    `include "hfp8_format.vh"
    parameter integer WIDTH = 16; // at least 2
    localparam integer COUNT_BITS = log2_ceiling(WIDTH);

    input  [WIDTH-1:0] x;
    output [WIDTH-1:0] y;
    output [COUNT_BITS-1:0] count;

    reg [WIDTH-1:0] shifted;
    reg [COUNT_BITS-1:0] places;
    integer stage;

    always @* begin
        shifted = x;
        places = 0;
        for (stage = COUNT_BITS - 1; stage >= 0; stage = stage - 1)
            // Are the highest 2^stage bits zero?
            if ((shifted >> (WIDTH - (1 << stage))) == 0) begin
                shifted = shifted << (1 << stage);
                places[stage] = 1'b1;
            end
    end

    assign y = shifted;
    assign count = places;
endmodule
