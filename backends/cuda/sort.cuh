// Stable sort of (key, place) pairs, shared by sort and scatter.
#pragma once
#include <cstdint>

namespace tg::cuda {

// Sorts n pairs by key; equal keys keep their order, given that places come in ascending order.
void sort_keys(uint64_t* keys, uint32_t* places, uint32_t n);

}  // namespace tg::cuda
