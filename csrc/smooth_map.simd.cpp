#include "isa.hpp"
#include "simd.hpp"

namespace rdx::RDX_ISA {
namespace {

// Rows x N vectors of the product, their sums in registers.
template <std::size_t Rows, std::size_t N>
void block(const float* left, std::size_t left_stride, const float* right,
           std::size_t right_stride, std::size_t begin, std::size_t end, float* out,
           std::size_t out_stride, bool add) {
    Vec sums[Rows][N];
    for (std::size_t r = 0; r < Rows; ++r)
        for (std::size_t n = 0; n < N; ++n)
            sums[r][n] = add ? load(out + r * out_stride + n * Vec::width) : zero();
    for (std::size_t k = begin; k < end; ++k) {
        Vec line[N];
        for (std::size_t n = 0; n < N; ++n) line[n] = load(right + k * right_stride + n * Vec::width);
        for (std::size_t r = 0; r < Rows; ++r) {
            const Vec factor = broadcast(left[r * left_stride + k]);
            for (std::size_t n = 0; n < N; ++n) sums[r][n] = fma(factor, line[n], sums[r][n]);
        }
    }
    for (std::size_t r = 0; r < Rows; ++r)
        for (std::size_t n = 0; n < N; ++n)
            store(out + r * out_stride + n * Vec::width, sums[r][n]);
}

template <std::size_t Rows>
void rows_of_product(const float* left, std::size_t left_stride, const float* right,
                     std::size_t right_stride, std::size_t begin, std::size_t end, float* out,
                     std::size_t out_stride, std::size_t columns, bool add) {
    std::size_t x = 0;
    for (; x + 2 * Vec::width <= columns; x += 2 * Vec::width)
        block<Rows, 2>(left, left_stride, right + x, right_stride, begin, end, out + x, out_stride,
                       add);
    for (; x + Vec::width <= columns; x += Vec::width)
        block<Rows, 1>(left, left_stride, right + x, right_stride, begin, end, out + x, out_stride,
                       add);
    for (; x < columns; ++x)
        for (std::size_t r = 0; r < Rows; ++r) {
            float sum = add ? out[r * out_stride + x] : 0.0f;
            for (std::size_t k = begin; k < end; ++k)
                sum += left[r * left_stride + k] * right[k * right_stride + x];
            out[r * out_stride + x] = sum;
        }
}

}  // namespace

std::size_t column_tile() { return 2 * Vec::width; }

// out[r, x] (+)= sum over k in [begin, end) of left[r, k] * right[k, x].
void band_product(const float* left, std::size_t left_stride, const float* right,
                  std::size_t right_stride, std::size_t begin, std::size_t end, float* out,
                  std::size_t out_stride, std::size_t rows, std::size_t columns, bool add) {
    static_assert(row_tile == 4);
    const auto product = rows == 4   ? &rows_of_product<4>
                         : rows == 3 ? &rows_of_product<3>
                         : rows == 2 ? &rows_of_product<2>
                                     : &rows_of_product<1>;
    product(left, left_stride, right, right_stride, begin, end, out, out_stride, columns, add);
}

}  // namespace rdx::RDX_ISA
