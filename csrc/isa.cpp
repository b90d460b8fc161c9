#include "isa.hpp"

#include <stdexcept>

namespace rdx {
namespace {

#define RDX_ISA_ENTRY(isa, runs_here)                                                    \
    {#isa,              runs_here,     isa::column_tile,  isa::cosine_positions,         \
     isa::band_product, isa::multiply, isa::add_weighted, isa::summarize,                \
     isa::sum_rows,     isa::sum_rows_rgb, isa::sum_columns, isa::store_row,             \
     isa::store_row}

const Isa table[] = {
#ifdef RDX_X86
    RDX_ISA_ENTRY(avx512,
                  [] {
                      return __builtin_cpu_supports("avx512f") &&
                             __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512vl");
                  }),
    RDX_ISA_ENTRY(avx2,
                  [] {
                      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                             __builtin_cpu_supports("f16c");
                  }),
#endif
    RDX_ISA_ENTRY(portable, [] { return true; }),
};

}  // namespace

std::string isas() {
    std::string names;
    for (const Isa& isa : table)
        if (isa.runs_here()) names += (names.empty() ? "" : " ") + std::string(isa.name);
    return names;
}

const Isa& isa_named(const std::string& name) {
    for (const Isa& isa : table)
        if (name == isa.name && isa.runs_here()) return isa;
    throw std::invalid_argument("instruction set '" + name + "' is not among those that this CPU " +
                                "runs: " + isas());
}

}  // namespace rdx
