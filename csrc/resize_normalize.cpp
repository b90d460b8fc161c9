#include "resize_normalize.hpp"

#include <algorithm>
#include <vector>

#include "parallel.hpp"

namespace rdx {
namespace {

// Buffers of one thread. Rows are summed first: they are contiguous.
struct Scratch {
    std::vector<const std::byte*> rows;
    std::vector<float> weights;
    std::vector<float> lines;   // each a row of the frame, of one colour
    std::vector<float> planes;  // [3, columns], padded to whole vectors
};

struct Resize {
    const Isa& isa;
    const Frame& frame;
    const Taps &rows, &columns;
    std::vector<float> grouped;  // the columns' weights, their taps padded to whole groups
    std::size_t groups;          // taps of those
    std::size_t line, plane;     // lengths in floats
    std::size_t from, to;        // pixels of a row that the columns' filter draws on

    Resize(const Isa& isa_, const Frame& frame_, const Taps& rows_, const Taps& columns_)
        : isa(isa_), frame(frame_), rows(rows_), columns(columns_),
          groups((columns_.taps + tap_group - 1) / tap_group * tap_group) {
        grouped.resize(columns.count * groups);
        for (std::size_t j = 0; j < columns.count; ++j)
            std::copy_n(columns.table(0) + j * columns.taps, columns.taps, &grouped[j * groups]);
        const std::int32_t* end = columns.first + columns.count;
        from = static_cast<std::size_t>(*std::min_element(columns.first, end));
        to = static_cast<std::size_t>(*std::max_element(columns.first, end)) + columns.taps;
        line = to + tap_group;  // a group may read on, where it weighs nothing
        plane = (columns.count + 15) / 16 * 16;
    }

    Scratch scratch() const {
        const std::size_t lines = frame.format == PixelFormat::bayer ? 6 : frame.channels;
        return {std::vector<const std::byte*>(rows.taps), std::vector<float>(rows.taps),
                std::vector<float>(lines * line), std::vector<float>(3 * plane)};
    }

    const std::byte* row(std::size_t y) const {
        return frame.data + static_cast<std::ptrdiff_t>(y) * frame.pitch;
    }

    // The rows that output i draws on and weight(k) of each, into the scratch; only those whose
    // number is even or odd if `step` is 2. How many they are.
    template <class Weight>
    std::size_t find_rows(std::size_t i, std::size_t parity, std::size_t step, const Weight& weight,
                          Scratch& s) const {
        const auto first = static_cast<std::size_t>(rows.first[i]);
        std::size_t n = 0;
        for (std::size_t k = step == 1 ? 0 : (first + parity) % 2; k < rows.taps; k += step) {
            s.rows[n] = row(first + k) + from * frame.pixel_bytes();
            s.weights[n++] = weight(k);
        }
        return n;
    }

    // One line through the columns' filter; only columns that are even or odd if `step` is 2.
    float at_column(const float* row, std::size_t table, std::size_t j, std::size_t parity,
                    std::size_t step) const {
        const auto first = static_cast<std::size_t>(columns.first[j]);
        const float* weights = columns.table(table) + j * columns.taps;
        float sum = 0.0f;
        for (std::size_t k = step == 1 ? 0 : (first + parity) % 2; k < columns.taps; k += step)
            sum += weights[k] * row[first + k];
        return sum;
    }

    void interleaved(std::size_t i, Scratch& s) const {
        const float* weights = rows.table(0) + i * rows.taps;
        const std::size_t n = find_rows(i, 0, 1, [=](std::size_t k) { return weights[k]; }, s);
        float* const lines[3] = {s.lines.data() + from, s.lines.data() + line + from,
                                 s.lines.data() + 2 * line + from};
        if (frame.channels == 3)
            isa.sum_rows_rgb(s.rows.data(), frame.levels, s.weights.data(), n, lines, to - from);
        else
            isa.sum_rows(s.rows.data(), frame.levels, s.weights.data(), n, lines[0], to - from);
        for (std::size_t c = 0; c < frame.channels; ++c)
            isa.sum_columns(s.lines.data() + c * line, columns.first, grouped.data(), groups,
                            columns.count, s.planes.data() + c * plane);
    }

    // Demosaicing (bilinear) is linear too: it is folded into the filters of the two axes, so each
    // pixel is read once. With P, S, N the filter's tables: red and blue are S raw S over their own
    // pixels, green is (P + N) raw P + P raw N over its own.
    void bayer(std::size_t i, Scratch& s) const {
        const float* p = rows.table(0) + i * rows.taps;
        const float* f = rows.table(1) + i * rows.taps;
        const float* n = rows.table(2) + i * rows.taps;
        const auto filled = [=](std::size_t k) { return f[k]; };
        const auto plain = [=](std::size_t k) { return p[k]; };
        const auto crossed = [=](std::size_t k) { return p[k] + n[k]; };
        const auto sum = [&](std::size_t n, float* out) {
            isa.sum_rows(s.rows.data(), frame.levels, s.weights.data(), n, out + from, to - from);
        };
        float* lines[6];
        for (std::size_t l = 0; l < 6; ++l) lines[l] = s.lines.data() + l * line;
        for (std::size_t other = 0; other < 2; ++other) {  // rows with red, then rows with blue
            const std::size_t parity = frame.red_row ^ other;
            sum(find_rows(i, parity, 2, filled, s), lines[3 * other]);
            sum(find_rows(i, parity, 2, crossed, s), lines[3 * other + 1]);
            sum(find_rows(i, parity, 2, plain, s), lines[3 * other + 2]);
        }
        const std::size_t red = frame.red_column, blue = red ^ 1;
        for (std::size_t j = 0; j < columns.count; ++j) {
            s.planes[j] = at_column(lines[0], 1, j, red, 2);
            s.planes[plane + j] = at_column(lines[1], 0, j, blue, 2) +
                                  at_column(lines[2], 2, j, blue, 2) +
                                  at_column(lines[4], 0, j, red, 2) +
                                  at_column(lines[5], 2, j, red, 2);
            s.planes[2 * plane + j] = at_column(lines[3], 1, j, blue, 2);
        }
    }
};

}  // namespace

void resize_normalize(const Isa& isa, const Frame& frame, const Taps& rows, const Taps& columns,
                      const float gain[3], const float offset[3], const Input& out,
                      std::size_t threads) {
    const Resize resize(isa, frame, rows, columns);
    threads = std::max<std::size_t>(1, std::min(threads, rows.count));
    std::vector<Scratch> scratch(threads, resize.scratch());
    parallel_for(rows.count, threads, [&](std::size_t t, std::size_t begin, std::size_t end) {
        Scratch& s = scratch[t];
        for (std::size_t i = begin; i < end; ++i) {
            if (frame.format == PixelFormat::bayer)
                resize.bayer(i, s);
            else
                resize.interleaved(i, s);
            for (std::size_t c = 0; c < 3; ++c) {
                const std::size_t source = frame.format == PixelFormat::mono  ? 0
                                           : frame.format == PixelFormat::bgr ? 2 - c
                                                                              : c;
                const float* plane = s.planes.data() + source * resize.plane;
                const std::ptrdiff_t start = static_cast<std::ptrdiff_t>(c) * out.strides[0] +
                                             static_cast<std::ptrdiff_t>(i) * out.strides[1];
                if (out.element == Element::f16)
                    isa.store_half(plane, columns.count, gain[c], offset[c],
                                   static_cast<Half*>(out.data) + start, out.strides[2]);
                else
                    isa.store_float(plane, columns.count, gain[c], offset[c],
                                    static_cast<float*>(out.data) + start, out.strides[2]);
            }
        }
    });
}

}  // namespace rdx
