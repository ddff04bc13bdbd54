// Our own product kernel: an element's bits depend on its row of a and column of b alone; convolutions read the image
// in place of columns.
#include <doctest/doctest.h>

#include "backend_util.h"
#include "backends/cpu/loops.h"
#include "backends/recurrent.h"
#include "core/pool.h"
#include "tg/tg.h"

using namespace tg;
using namespace tg::test;

namespace {

Tensor numbers(IntList sizes, DType t, uint64_t seed) {
  Generator g(seed);
  return cast(randn(sizes, DType::F32, Device{}, false, &g), t);
}
bool same_bits(const Tensor& a, const Tensor& b) {
  Tensor x = contiguous(a), y = contiguous(b);
  return x.sizes() == y.sizes() && x.dtype() == y.dtype() &&
         std::memcmp(x.data(), y.data(), size_t(x.numel() * itemsize(x.dtype()))) == 0;
}

}  // namespace

TEST_CASE("a product has the same bits for any number of rows and columns computed together") {
  if (!cpu::loops().gemm) {
    MESSAGE("no kernel of our own for this instruction set");
    return;
  }
  int compared = 0;
  for (DType t : {DType::F32, DType::BF16, DType::F16})
    for (int64_t k : {1, 31, 64, 255, 256, 257, 513, 700})
      for (bool transposed : {false, true}) {
        const int64_t m = 475, n = 99;  // more rows than are packed at once, a rest of columns
        Tensor a = numbers({m, k}, t, 1), b = transposed ? numbers({n, k}, t, 2).t() : numbers({k, n}, t, 2);
        Tensor whole = matmul(a, b);
        for (int64_t rows : {1, 2, 3, 8, 13, 14, 15, 32, 449})
          for (int64_t first : {int64_t(0), int64_t(5), m - rows}) {
            INFO("dtype ", short_name(t), " k ", k, " rows ", rows, " from ", first, " transposed ", transposed);
            CHECK(same_bits(matmul(narrow(a, 0, first, rows), b), narrow(whole, 0, first, rows)));
            ++compared;
          }
        for (int64_t cols : {1, 2, 7, 16, 17, 32, 33, 98}) {
          INFO("dtype ", short_name(t), " k ", k, " columns ", cols, " transposed ", transposed);
          CHECK(same_bits(matmul(a, narrow(b, 1, n - cols, cols)), narrow(whole, 1, n - cols, cols)));
          ++compared;
        }
      }
  std::printf("gemm, parts of products: %d comparisons\n", compared);
}

// One thread packs the right operand once for all rows, as far as it may keep it; several cut rows as well.
TEST_CASE("a product has the same bits however it is cut among threads") {
  const int before = num_threads();
  for (DType t : {DType::F32, DType::BF16})
    for (auto [m, n, k] : {std::tuple{475, 99, 257},
                           {900, 1364, 513},
                           {460, 1400, 1536},
                           {900, 40, 3001},
                           {450, 8000, 1},
                           {500, 24, 9000}}) {
      Tensor a = numbers({m, k}, t, 1), b = numbers({n, k}, t, 2).t();
      set_num_threads(1);
      const Tensor one = matmul(a, b);
      for (int threads : {2, 3}) {
        set_num_threads(threads);
        INFO("dtype ", short_name(t), " ", m, " x ", n, " x ", k, ", threads ", threads);
        CHECK(same_bits(matmul(a, b), one));
      }
      // and those of fewer rows, for which nothing is kept; a BLAS may take another kernel for few rows
      if (cpu::loops().gemm) CHECK(same_bits(matmul(narrow(a, 0, m - 9, 9), b), narrow(one, 0, m - 9, 9)));
    }
  set_num_threads(before);
}

TEST_CASE("a product by what was packed before has the bits of any other") {
  if (!cpu::loops().gemm) {
    MESSAGE("no kernel of our own for this instruction set");
    return;
  }
  const int before = num_threads();
  int compared = 0;
  for (auto [k, n] : {std::pair{256, 1024}, {1024, 256}, {300, 99}, {513, 40}, {64, 64}, {4096, 9}, {257, 17}})
    for (bool transposed : {false, true}) {
      Tensor b = transposed ? numbers({1, n, k}, DType::F32, 2).transpose(1, 2) : numbers({1, k, n}, DType::F32, 2);
      for (int threads : {1, 2, 3, 4}) {
        set_num_threads(threads);
        const Tensor given = clone(b);
        const ProductBy by = recurrent_kernels(Device{})->product_by(View(given));
        REQUIRE(by);
        zero_(given);  // what is packed is kept
        for (int64_t m : {1, 2, 13, 32, 33, 475}) {
          const Tensor a = numbers({1, m, k}, DType::F32, 1);
          Tensor c = numbers({1, m, n}, DType::F32, 3), want = clone(c);
          backend(Device{}).gemm(1, View(a), View(b), 1, View(want));
          by(View(a), 1, View(c));
          INFO(m, " x ", k, " x ", n, ", threads ", threads, ", transposed ", transposed);
          CHECK(same_bits(c, want));
          ++compared;
        }
      }
    }
  set_num_threads(before);
  // What gains nothing by it.
  CHECK(!recurrent_kernels(Device{})->product_by(View(ones({1, 16, 16}))));
  CHECK(!recurrent_kernels(Device{})->product_by(View(ones({1, 4096, 7}))));
  CHECK(!recurrent_kernels(Device{})->product_by(View(ones({1, 256, 256}, DType::F64))));
  std::printf("gemm, packed before: %d comparisons\n", compared);
}

TEST_CASE("a product with a bias has the bits of one that is added to the bias") {
  if (!cpu::loops().gemm) {
    MESSAGE("no kernel of our own for this instruction set");
    return;
  }
  for (int64_t m : {1, 4, 33, 475})
    for (int64_t n : {8, 31, 100, 1024})
      for (int64_t k : {1, 256, 300}) {
        const Tensor a = numbers({1, m, k}, DType::F32, 1), b = numbers({1, k, n}, DType::F32, 2);
        const Tensor bias = numbers({n}, DType::F32, 3), want = contiguous(expand(bias, {1, m, n}));
        Tensor c = full({1, m, n}, std::nan(""));
        REQUIRE(backend(Device{}).gemm_bias(View(a), View(b), View(bias), View(c)));
        backend(Device{}).gemm(1, View(a), View(b), 1, View(want));
        INFO(m, " x ", k, " x ", n);
        CHECK(same_bits(c, want));
      }
}

TEST_CASE("products with what is no number: zero times infinity is none, and beta 0 does not read") {
  for (int64_t m : {1, 5, 40}) {
    Tensor a = zeros({m, 20}, DType::F32), b = full({20, 40}, std::numeric_limits<double>::infinity());
    CHECK(isnan(matmul(a, b)).all().item<bool>());
    Tensor c = full({1, m, 40}, std::nan(""));
    backend(Device{}).gemm(1, View(unsqueeze(a, 0)), View(ones({1, 20, 40})), 0, View(c));
    CHECK((c == 0).all().item<bool>());
  }
}

// The kernels of another instruction set, by the table itself.
TEST_CASE("AVX2 and AVX-512 multiply to the same bits") {
  const cpu::Loops *avx2 = cpu::loops_of("avx2"), *avx512 = cpu::loops_of("avx512");
  if (!avx512) {
    MESSAGE("this processor has no AVX-512");
    return;
  }
  int compared = 0;
  for (int64_t m : {1, 6, 13, 100, 475})
    for (int64_t n : {1, 8, 9, 16, 31, 100})
      for (int64_t k : {1, 200, 300}) {
        Tensor a = numbers({m, k}, DType::F32, 3), b = numbers({k, n}, DType::F32, 4);
        Tensor c2 = empty_tensor({m, n}, DType::F32), c512 = empty_tensor({m, n}, DType::F32);
        cpu::GemmProduct p;
        p.a = {a.data(), DType::F32, 1, k}, p.b = {b.data(), DType::F32, n, 1};
        p.ldc = n, p.m = m, p.n = n, p.k = k, p.alpha = 0.75f;
        p.c = c2.data<float>(), avx2->gemm(p);
        p.c = c512.data<float>(), avx512->gemm(p);
        CHECK(same_bits(c2, c512));
        for (const cpu::Loops* l : {avx2, avx512}) {
          Tensor c = empty_tensor({m, n}, DType::F32), packed = empty_tensor({k * (n + 31)}, DType::F32);
          l->gemm_pack(p.b, k, 0, n, packed.data<float>());
          p.c = c.data<float>(), p.packed = packed.data<float>();
          l->gemm(p);
          CHECK(same_bits(c, c512));
          p.packed = nullptr;
        }
        ++compared;
      }
  std::printf("gemm, instruction sets: %d comparisons\n", compared);
}

TEST_CASE("convolutions read from the image equal those over columns") {
  struct Case {
    int64_t batch, groups, in, out;
    Dims size, kernel, stride, padding, dilation;
  };
  const Case cases[] = {{2, 1, 3, 5, {9, 11}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
                        {1, 1, 20, 33, {17, 40}, {3, 3}, {1, 1}, {0, 0}, {1, 1}},
                        {2, 2, 4, 6, {14, 14}, {3, 2}, {2, 2}, {1, 1}, {1, 1}},
                        {2, 1, 3, 16, {30, 31}, {7, 7}, {2, 2}, {3, 3}, {1, 1}},
                        {1, 3, 2, 2, {12, 10}, {2, 3}, {1, 3}, {2, 0}, {2, 3}},
                        {3, 1, 18, 17, {7, 7}, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
                        {2, 1, 5, 4, {50}, {5}, {1}, {2}, {1}},
                        {1, 1, 2, 460, {9, 12}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
                        {2, 1, 2, 460, {9, 12}, {3, 3}, {2, 2}, {1, 1}, {1, 1}},
                        {1, 1, 2, 3, {6, 7, 8}, {2, 3, 2}, {1, 2, 1}, {1, 0, 1}, {1, 1, 1}}};
  const int before = num_threads();
  for (const Case& c : cases) {
    Dims xs{c.batch, c.groups * c.in}, ws{c.groups * c.out, c.in};
    for (int64_t s : c.size) xs.push_back(s);
    for (int64_t s : c.kernel) ws.push_back(s);
    Tensor x = numbers(IntList(xs), DType::F32, 5), w = numbers(IntList(ws), DType::F32, 6);
    const IntList stride(c.stride), padding(c.padding), dilation(c.dilation);
    auto all = [&] {
      Tensor y = convolution(x, w, stride, padding, dilation, c.groups);
      Tensor g = numbers(IntList(y.sizes()), DType::F32, 7);
      return std::vector<Tensor>{y, convolution_input(g, w, IntList(c.size), stride, padding, dilation, c.groups),
                                 convolution_weight(x, g, IntList(c.kernel), stride, padding, dilation, c.groups)};
    };
    const std::vector<Tensor> fast = all();
    modes().fast_paths = false;
    const std::vector<Tensor> slow = all();
    modes().fast_paths = true;
    for (size_t i = 0; i < fast.size(); ++i) {
      INFO("channels ", c.in, " kernel ", c.kernel[0], " result ", i);
      // Two orders of at most 1,024 terms of about 1: 1,024 steps of 6e-8 times their root mean square sum.
      CHECK((fast[i] - slow[i]).abs().max().item<double>() < 2e-4);
    }
    // The same bits for any number of threads.
    for (int threads : {1, 2, 3}) {
      set_num_threads(threads);
      const std::vector<Tensor> again = all();
      for (size_t i = 0; i < fast.size(); ++i) CHECK(same_bits(again[i], fast[i]));
    }
    set_num_threads(before);
  }
}
