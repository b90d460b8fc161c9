#pragma once

// The inner loops, once for each instruction set, and the choice among them at run time.

#include <cstddef>
#include <cstdint>
#include <string>

#include "elements.hpp"

namespace rdx {

// Feature map of one image: element (channel, position) lies at
// data + channel * channel_stride + position * position_stride, in elements.
struct Features {
    const void* data;
    std::ptrdiff_t channel_stride, position_stride;
};

// What is read off one region of an anomaly map while the map is made.
struct Summary {
    float maximum;
    std::int64_t area;
    bool nan;
};

#define RDX_INNER_LOOPS(isa)                                                                       \
    namespace isa {                                                                                \
    std::size_t column_tile();                                                          \
    void cosine_positions(Element element, Features teacher, Features student,                     \
                          std::size_t channels, std::size_t count, float* out);                    \
    void band_product(const float* left, std::size_t left_stride, const float* right,              \
                      std::size_t right_stride, std::size_t begin, std::size_t end, float* out,    \
                      std::size_t out_stride, std::size_t rows, std::size_t columns, bool add);    \
    void multiply(float* product, const float* factor, std::size_t count);                         \
    void add_weighted(const float* row, float weight, const float* weights, std::size_t count,     \
                      float* sum);                                                                 \
    void summarize(const float* row, const std::uint8_t* labels, std::uint8_t label,               \
                   std::size_t count, float threshold, Summary& summary);                          \
    void sum_rows(const std::byte* const* rows, Levels levels, const float* weights,               \
                  std::size_t taps, float* line, std::size_t count);                               \
    void sum_rows_rgb(const std::byte* const* rows, Levels levels, const float* weights,           \
                      std::size_t taps, float* const planes[3], std::size_t pixels);               \
    void sum_columns(const float* line, const std::int32_t* first, const float* weights,           \
                     std::size_t taps, std::size_t count, float* out);                             \
    void store_row(const float* row, std::size_t count, float gain, float offset, float* out,      \
                   std::ptrdiff_t stride);                                                         \
    void store_row(const float* row, std::size_t count, float gain, float offset, Half* out,       \
                   std::ptrdiff_t stride);                                                         \
    }

RDX_INNER_LOOPS(portable)
#ifdef RDX_X86
RDX_INNER_LOOPS(avx2)
RDX_INNER_LOOPS(avx512)
#endif
#undef RDX_INNER_LOOPS

struct Isa {
    const char* name;
    bool (*runs_here)();
    decltype(&portable::column_tile) column_tile;
    decltype(&portable::cosine_positions) cosine_positions;
    decltype(&portable::band_product) band_product;
    decltype(&portable::multiply) multiply;
    decltype(&portable::add_weighted) add_weighted;
    decltype(&portable::summarize) summarize;
    decltype(&portable::sum_rows) sum_rows;
    decltype(&portable::sum_rows_rgb) sum_rows_rgb;
    decltype(&portable::sum_columns) sum_columns;
    void (*store_float)(const float*, std::size_t, float, float, float*, std::ptrdiff_t);
    void (*store_half)(const float*, std::size_t, float, float, Half*, std::ptrdiff_t);
};

// Rows of a map that are made together; inner loops take at most this many.
constexpr std::size_t row_tile = 4;

// sum_columns takes its taps in whole groups of so many.
constexpr std::size_t tap_group = 8;

// Names of those that this CPU runs, the widest first.
std::string isas();
// Throws std::invalid_argument for a name that is not among them.
const Isa& isa_named(const std::string& name);

}  // namespace rdx
