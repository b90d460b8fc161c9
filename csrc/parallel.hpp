#pragma once

#include <algorithm>
#include <cstddef>
#include <system_error>
#include <thread>
#include <vector>

namespace rdx {

// body(thread, begin, end) over [0, items), in at most `threads` even parts. Threads live for the
// call alone: a pool would compete with the engine's for the cores. `body` must not throw.
template <class Body>
void parallel_for(std::size_t items, std::size_t threads, const Body& body) {
    threads = std::max<std::size_t>(1, std::min(threads, items));
    const auto bound = [=](std::size_t t) { return items * t / threads; };
    std::vector<std::thread> others;
    others.reserve(threads - 1);
    try {
        for (std::size_t t = 1; t < threads; ++t)
            others.emplace_back([&, t] { body(t, bound(t), bound(t + 1)); });
    } catch (const std::system_error&) {
        // The system has no more threads: what was not begun is done here.
        for (std::size_t t = others.size() + 1; t < threads; ++t) body(t, bound(t), bound(t + 1));
    }
    body(std::size_t{0}, std::size_t{0}, bound(1));
    for (std::thread& other : others) other.join();
}

}  // namespace rdx
