// A chunk accumulator of your own in C++, compared with libhfp8_ref product by product: 1-4-3 operands, chunks of 64
// in 1-6-9, nearest, ties away. docs/rtl.md has the commands.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>

#include <hfp8_dpi.h>

// Your unit. This one adds in double, which is exact for these operands, and rounds to 10 significant bits.
class MyAccumulator {
public:
    void push(double product)
    {
        chunk_ = rounded(chunk_ + product);
        if (++count_ % 64 == 0)
            close();
    }
    double finish()
    {
        if (count_ % 64 != 0)
            close();
        return total_;
    }
    double chunk() const { return chunk_; }

private:
    static double rounded(double x)
    {
        int exponent;
        const double significand = std::frexp(x, &exponent);
        return std::ldexp(std::round(std::ldexp(significand, 10)), exponent - 10);
    }
    void close()
    {
        total_ = count_ > 64 ? rounded(total_ + chunk_) : chunk_; // the first chunk is copied
        chunk_ = 0;
    }
    double chunk_ = 0, total_ = 0;
    int count_ = 0;
};

static double value(std::uint32_t format, std::uint32_t code)
{
    const std::uint64_t bits = hfp8_decode(format, code);
    double x;
    static_assert(sizeof x == sizeof bits);
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

int main()
{
    std::mt19937 random(1);
    std::uniform_int_distribution<std::uint32_t> codes(0x28, 0x78); // numbers from 2^-6 to 16
    long tried = 0, wrong = 0;
    std::printf("libhfp8_ref %s\n", hfp8_version());
    for (int length = 1; length <= 400; length++) {
        MyAccumulator mine;
        const std::int32_t reference = hfp8_mac_open(HFP8_PROFILE_HFP8_FWD, 0, 0, 0, 0);
        for (int k = 0; k < length; k++) {
            const std::uint32_t a = codes(random) | (random() & 0x80), b = codes(random);
            mine.push(value(HFP8_FORMAT_HFP8_143, a) * value(HFP8_FORMAT_HFP8_143, b));
            const std::uint32_t chunk = hfp8_mac_push(reference, a, b);
            tried++;
            wrong += mine.chunk() != value(HFP8_FORMAT_DLFLOAT16, chunk);
        }
        std::uint32_t flags;
        const std::uint32_t result = hfp8_mac_close(reference, &flags);
        tried++;
        wrong += mine.finish() != value(HFP8_FORMAT_DLFLOAT16, result);
    }
    std::printf("%ld of %ld wrong\n", wrong, tried);
    return wrong != 0;
}
