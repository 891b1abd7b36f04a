// hfp8_matrix executes the tiles of a program.
//
//     matrix FILE
//
// FILE has numbers: the words of A, B, accumulator and total; random bits, products of an element, rows, columns; mode,
// mode between chunks, overflow policy, chunk length; seed, stream; M, N, K; the codes of A and B, row by row; the number of
// tiles; and for each the first and the count of m, n and k.
//
// It prints, with cycles counted from the first weight that is loaded:
//     tile LOAD START END      first cycle of its first load, of its first row of A, and after its last row of A
//     leave FIRST LAST0 LAST   cycles in which the first sum leaves, the last one of column 0, and the last one
//     result CODE ...          the results, row by row

#include "Vdut.h"
#include "bench.h"

#include <fstream>
#include <map>

static Vdut dut;

template <class T> void put(T &port, int at, int bits, uint64_t value)
{
    const uint64_t mask = (bits < 64 ? 1ull << bits : 0) - 1;
    port = (port & ~(mask << at)) | (value & mask) << at;
}

template <std::size_t N> void put(VlWide<N> &port, int at, int bits, uint64_t value)
{
    for (int i = 0; i < bits; i++, at++) {
        port[at / 32] &= ~(1u << at % 32);
        port[at / 32] |= (uint32_t)(value >> i & 1) << at % 32;
    }
}

template <class T> uint32_t get(const T &port, int at, int bits) { return port >> at & ((1ull << bits) - 1); }

template <std::size_t N> uint32_t get(const VlWide<N> &port, int at, int bits)
{
    uint32_t value = 0;
    for (int i = 0; i < bits; i++, at++)
        value |= (port[at / 32] >> at % 32 & 1) << i;
    return value;
}

struct tile {
    int m, rows, n, columns, k, depth, base;
    int64_t load = -1, start = -1, end = -1;
};

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    std::ifstream file(argv[1]);
    const auto number = [&] {
        std::string text;
        file >> text;
        return strtoull(text.c_str(), nullptr, 0);
    };
    ref_format formats[4];
    for (ref_format &each : formats) {
        std::string text;
        file >> text;
        each = format_of(text.c_str());
    }
    const int a_bits = bits_of(formats[0]), b_bits = bits_of(formats[1]);
    const int acc_bits = bits_of(formats[2]), total_bits = bits_of(formats[3]);
    const int random_bits = number(), products = number(), rows = number(), columns = number();
    dut.mode = number();
    dut.between_mode = number();
    dut.saturate = number();
    const int chunk = number(), depth = rows * products;
    const uint64_t seed = number(), stream = number();
    const int M = number(), N = number(), K = number();
    uint64_t keys[4];
    for (int site = 0; site < 4; site++)
        keys[site] = ref_key(seed, stream, site);
    std::vector<uint32_t> a(M * K), b(K * N);
    for (uint32_t &each : a)
        each = number();
    for (uint32_t &each : b)
        each = number();
    std::vector<tile> tiles(number());
    std::map<std::pair<int, int>, int> bases;
    int next_base = 0;
    for (tile &t : tiles) {
        t.m = number(), t.rows = number(), t.n = number(), t.columns = number(), t.k = number(), t.depth = number();
        if (chunk % depth || t.k % depth)
            return 2;
        if (!bases.count({t.m, t.n})) {
            bases[{t.m, t.n}] = next_base;
            next_base += t.rows * ((t.columns + columns - 1) / columns);
        }
        t.base = bases[{t.m, t.n}];
    }

    const auto word = [&](int site, uint64_t i, uint64_t j) { return ref_word(keys[site], i, j) >> (32 - random_bits); };
    const auto at = [](const std::vector<uint32_t> &x, int row, int column, int width, bool inside) {
        return inside ? x[row * width + column] : 0;
    };
    size_t sent = 0;
    int64_t cycle = 0, origin = -1, first = -1, last0 = -1, last = -1;
    dut.reset = 1;
    for (int quiet = 0; quiet < 4 * (rows + columns); cycle++) {
        // Outputs of this cycle
        dut.clk = 0;
        dut.command_valid = sent < tiles.size() && !dut.reset;
        if (sent < tiles.size()) {
            const tile &t = tiles[sent];
            dut.base = t.base;
            dut.rows = t.rows;
            dut.blocks_n = (t.columns + columns - 1) / columns;
            dut.blocks_k = (t.depth + depth - 1) / depth;
            dut.chunk_blocks = chunk / depth;
            dut.phase = chunk ? t.k % chunk / depth : 0;
            dut.first_chunk = chunk ? t.k < chunk : t.k == 0;
            dut.finish = t.k + t.depth == K;
        }
        dut.eval();
        const bool taken = dut.command_valid && dut.command_ready;
        const bool loads = dut.load && !dut.reset, streams = dut.stream && !dut.reset;
        // The memories answer.
        if (loads) {
            tile &t = tiles[dut.load_command];
            if (t.load < 0)
                t.load = cycle;
            if (origin < 0)
                origin = cycle;
            const int k = t.k + (dut.load_k * rows + dut.load_row) * products;
            for (int c = 0; c < columns; c++) {
                const int n = t.n + dut.load_n * columns + c;
                for (int p = 0; p < products; p++)
                    put(dut.weights, (c * products + p) * b_bits, b_bits,
                        at(b, k + p, n, N, n < t.n + t.columns && k + p < t.k + t.depth));
                put(dut.column_words, c * random_bits, random_bits, word(1, n, k));
                put(dut.between_column_words, c * random_bits, random_bits, word(3, n, chunk ? k / chunk : 0));
            }
        }
        if (streams) {
            tile &t = tiles[dut.stream_command];
            if (t.start < 0)
                t.start = cycle;
            t.end = cycle + 1;
            const int m = t.m + dut.stream_row;
            for (int r = 0; r < rows; r++) {
                const int k = t.k + (dut.stream_k * rows + r) * products;
                for (int p = 0; p < products; p++)
                    put(dut.a, (r * products + p) * a_bits, a_bits, at(a, m, k + p, K, k + p < t.k + t.depth));
                put(dut.row_words, r * random_bits, random_bits, word(0, m, k));
            }
            dut.between_row_word = word(2, m, chunk ? (t.k + dut.stream_k * depth) / chunk : 0);
        }
        dut.eval();
        if (dut.leaving && !dut.reset && origin >= 0) {
            if (first < 0)
                first = cycle;
            if (dut.leaving & 1)
                last0 = cycle;
            last = cycle;
        }
        dut.clk = 1;
        dut.eval();
        if (taken)
            sent++;
        quiet = dut.idle && sent == tiles.size() && !dut.reset ? quiet + 1 : 0;
        if (cycle == rows + columns) // what was in the pipeline at the start has left
            dut.reset = 0;
    }

    for (const tile &t : tiles)
        printf("tile %lld %lld %lld\n", (long long)(t.load - origin), (long long)(t.start - origin),
               (long long)(t.end - origin));
    printf("leave %lld %lld %lld\nresult", (long long)(first - origin), (long long)(last0 - origin),
           (long long)(last - origin));
    std::vector<uint32_t> results(M * N);
    for (const tile &t : tiles)
        for (int m = 0; m < t.rows; m++)
            for (int n = 0; n < t.columns; n++) {
                dut.read_address = t.base + n / columns * t.rows + m;
                dut.eval();
                results[(t.m + m) * N + t.n + n] = chunk ? get(dut.read_totals, n % columns * total_bits, total_bits)
                                                         : get(dut.read_sums, n % columns * acc_bits, acc_bits);
            }
    for (uint32_t each : results)
        printf(" %x", each);
    printf("\n");
    return 0;
}
