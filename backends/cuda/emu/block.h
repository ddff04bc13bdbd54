// Runs the blocks of a kernel one after another, the threads of a block as fibers. Which thread goes on at a barrier is
// drawn by seed (TG_EMU_SEED): 0 in order, 1 in reverse, even: any thread, odd from 3: one warp runs far ahead.
#pragma once
#include <functional>
#include <random>

#include "backends/cuda/emu/emu.h"

namespace tg::emu {

unsigned seed();
uint32_t draw(uint32_t n);  // a number below n, the same sequence for the same seed

void run_grid(const char* name, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);

// Marks memory as beyond every object, or as part of one (AddressSanitizer); fills as uninitialised.
void poison(void* p, size_t n);
void unpoison(void* p, size_t n);
void fill_uninitialised(void* p, size_t n);

}  // namespace tg::emu
