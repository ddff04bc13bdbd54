// CUDA devices over the emulation: memory, copies, the message when there is none.
#include <doctest/doctest.h>

#include <limits>

#include "backends/collective.h"
#include "ops/ops.h"
#include "optim/clip.h"
#include "optim/optimizer.h"
#include "optim/unscale.h"
#include "tests/cpp/backend_util.h"

using namespace tg;
using namespace tg::test;

TEST_CASE("cuda: tensors live on the device, answers name the emulation" * doctest::skip(!cuda::emulating())) {
  const Device d("cuda");
  Tensor x = arange(6).reshape({2, 3}).to(d);
  CHECK(x.device() == d);
  Tensor y = (x + 1).transpose(0, 1);
  CHECK(y.device() == d);
  CHECK(y.to(Device()).contiguous().data<int64_t>()[1] == 4);
  CHECK(y[2][0].item() == 3);
  CHECK(to_string(x).find("device='cuda:0' (emulation)") != std::string::npos);
  CHECK_THROWS_AS(x.data<int64_t>(), DeviceError);
  CHECK_THROWS_AS(x + ones({2, 3}), DeviceError);
  CHECK_THROWS_AS(zeros({1}, {}, Device("cuda:7")), DeviceError);
  cuda::Probe p = cuda::probe();
  CHECK(p.emulated);
  CHECK(cuda::runtime().properties(0).name.find("emulation") != std::string::npos);
  CHECK_THROWS_AS(cuda::emulate(false), ValueError);
}

TEST_CASE("cuda: ops of the CPU take operands from the device and give back results and gradients" *
          doctest::skip(!cuda::emulating())) {
  const Device d("cuda");
  auto inverse = [](const Tensor& leaf) {
    const Tensor y = linalg_inv(leaf);
    (y * y).sum().backward();
    return y;
  };
  const Tensor on_cpu = (eye(3) * 3 + ones({3, 3})).set_requires_grad(true);
  const Tensor there = on_cpu.detach().to(d).set_requires_grad(true);
  const Tensor want = inverse(on_cpu), found = inverse(there);
  CHECK(found.device() == d);
  CHECK(there.grad().device() == d);
  CHECK((found.to(Device()) - want).abs().max().item<float>() == 0);
  CHECK((there.grad().to(Device()) - on_cpu.grad()).abs().max().item<float>() == 0);
}

TEST_CASE("cuda: many tensors are stepped, scaled and measured together, with the CPU's bits" *
          doctest::skip(!cuda::emulating())) {
  const Device devices[] = {Device(), Device("cuda")};
  const int64_t lengths[] = {0, 1, 3, 4096, 4099, 9001};
  for (DType t : {DType::F32, DType::F64, DType::BF16, DType::F16})
    for (bool masters : {false, true}) {
      std::vector<Tensor> params[2];
      for (int side : {0, 1}) {
        for (int i = 0; i < 90; ++i) {
          const Tensor x = arange(double(i < 6 ? lengths[i] : i % 4), DType::F32) * 0.01 - 0.3;
          params[side].push_back(x.to(devices[side], t).set_requires_grad(true));
        }
        optim::AdamW opt(params[side], {.lr = 0.01});
        opt.param_groups[0]["master_weights"] = masters;
        for (int step = 0; step < 3; ++step) {
          std::vector<Tensor> grads;
          for (const Tensor& p : params[side]) {
            p.set_grad((p.detach() * 3 + double(step)).to(t));
            grads.push_back(p.grad());
          }
          CHECK(optim::unscale(grads, 0.5) == -1);
          opt.step();
        }
      }
      std::vector<Tensor> grads;
      for (size_t i = 0; i < params[0].size(); ++i) {
        CHECK(equal(params[0][i].detach(), params[1][i].detach().to(Device())));
        grads.push_back(params[1][i].grad());
      }
      const double norm = optim::clip_grad_norm_(params[1], 0.5).item();
      CHECK(std::isfinite(norm));
      fill_(grads[81].narrow(0, 0, 1), std::numeric_limits<double>::infinity());
      fill_(grads[87].narrow(0, 2, 1), std::nan(""));
      CHECK(optim::unscale(grads, 1) == 81);
    }
}

TEST_CASE("cuda: collectives over all devices" * doctest::skip(!cuda::emulating())) {
  using cuda::Collective;
  const int n = cuda::device_count();
  auto tensors = [&](int64_t length) {
    std::vector<Tensor> ts;
    for (int d = 0; d < n; ++d) ts.push_back((arange(double(length), DType::F32) + d).to(Device(DeviceType::CUDA, d)));
    return ts;
  };
  auto same = [](const Tensor& t, const Tensor& want) { return t.to(Device()).equal(want.to(Device())); };
  const auto ins = tensors(2 * n), rows = tensors(2 * n * n), parts = tensors(2), sums = tensors(2 * n);
  const Tensor want = arange(2.0 * n, DType::F32) * n + n * (n - 1) / 2;
  cuda::collective(Collective::AllReduce, ins, sums, 0, 0);
  cuda::collective(Collective::AllGather, ins, rows, 0, 0);
  cuda::collective(Collective::ReduceScatter, ins, parts, 0, 0);
  cuda::collective(Collective::Reduce, ins, {ins[size_t(n) - 1]}, 0, n - 1);
  for (int d = 0; d < n; ++d) {
    CHECK(same(sums[size_t(d)], want));
    CHECK(same(parts[size_t(d)], want.narrow(0, 2 * d, 2)));
    for (int k = 0; k < n; ++k)
      CHECK(same(rows[size_t(d)].narrow(0, 2 * n * k, 2 * n), arange(2.0 * n, DType::F32) + k));
  }
  CHECK(same(ins[size_t(n) - 1], want));
  cuda::collective(Collective::Broadcast, ins, ins, 0, n - 1);
  for (const Tensor& t : ins) CHECK(same(t, want));
  CHECK_THROWS_AS(cuda::collective(Collective::AllReduce, {ones({1})}, {ones({1})}, 0, 0), DeviceError);
}
