#include <doctest/doctest.h>

#include "core/allocator.h"
#include "nn/nn.h"
#include "ops/ops.h"

using namespace tg;

namespace {

struct Net : nn::Module {
  nn::Linear a = reg("a", nn::Linear(4, 8));
  nn::Linear b = reg("b", nn::Linear(8, 2));
  Tensor scale;
  Tensor steps;
  Net() {
    reg("scale", scale = nn::Parameter(ones({2})));
    reg_buffer("steps", steps = zeros({1}));
  }
  Tensor forward(const Tensor& x) override { return b(relu(a(x))) * scale; }
};

std::vector<std::string> names(const nn::NamedTensors& named) {
  std::vector<std::string> out;
  for (auto& [n, t] : named) out.push_back(n);
  return out;
}

}  // namespace

TEST_CASE("nn: registration and names") {
  Net net;
  CHECK(names(net.named_parameters()) == std::vector<std::string>{"scale", "a.weight", "a.bias", "b.weight", "b.bias"});
  CHECK(names(net.state_dict()) ==
        std::vector<std::string>{"scale", "steps", "a.weight", "a.bias", "b.weight", "b.bias"});
  CHECK(net.parameters().size() == 5);
  CHECK(net.type_name() == "Net");
  CHECK(net.repr() ==
        "Net(\n  (a): Linear(in_features=4, out_features=8, bias=True)\n"
        "  (b): Linear(in_features=8, out_features=2, bias=True)\n)");
  CHECK(net(ones({3, 4})).sizes() == Dims{3, 2});
  CHECK_THROWS_AS(net.register_buffer("x.y", ones({1})), ValueError);
  CHECK_THROWS_AS(net.child("missing"), ValueError);
}

TEST_CASE("nn: weights tied by assignment to a member") {
  Net net;
  nn::Linear c = net.reg("c", nn::Linear(4, 8, false));
  c->weight = net.a->weight;
  CHECK(net.parameters().size() == 5);
  CHECK(net.child("c").tensor("weight").is_same(net.a->weight));
}

TEST_CASE("nn: sequential, gradients, zero_grad") {
  nn::Sequential net(nn::Linear(4, 8), nn::ReLU(), nn::Dropout(0.0), nn::Linear(8, 1));
  nn::MSELoss loss;
  loss(net(ones({5, 4})), zeros({5, 1})).backward();
  for (const Tensor& p : net->parameters()) CHECK(p.grad().defined());
  net->zero_grad();
  for (const Tensor& p : net->parameters()) CHECK(!p.grad().defined());
  net->eval();
  CHECK(!net->at(2)->training);
  CHECK(net->get<nn::LinearImpl>(3).out_features == 1);
  CHECK_THROWS_AS(net->get<nn::LinearImpl>(1), TypeError);
  CHECK_THROWS_AS(net->at(4), IndexError);
}

TEST_CASE("nn: load_state_dict is all or nothing") {
  Net from, to;
  to.load_state_dict(from.state_dict());
  CHECK(equal(to.a->weight, from.a->weight));
  nn::NamedTensors bad = from.state_dict();
  bad[0].second = ones({3});
  bad[1].first = "other";
  bad[2].second = zeros({8, 4});
  std::string message;
  try {
    to.load_state_dict(bad);
  } catch (const ShapeError& e) {
    message = e.what();
  }
  CHECK(message.find("Missing key(s) in state_dict: \"steps\"") != message.npos);
  CHECK(message.find("Unexpected key(s) in state_dict: \"other\"") != message.npos);
  CHECK(message.find("size mismatch for scale") != message.npos);
  CHECK(equal(to.a->weight, from.a->weight));
  bad[0].second = ones({2});
  nn::LoadResult r = to.load_state_dict(bad, false);
  CHECK(r.missing == std::vector<std::string>{"steps"});
  CHECK(r.unexpected == std::vector<std::string>{"other"});
}

TEST_CASE("nn: to() keeps the tensors") {
  Net net;
  Tensor w = net.a->weight;
  net(ones({1, 4})).sum().backward();
  net.to(DType::F64);
  CHECK(w.dtype() == DType::F64);
  CHECK(w.grad().dtype() == DType::F64);
  CHECK(net.steps.dtype() == DType::F64);
  CHECK_THROWS_AS(net.to(DType::I64), DTypeError);
}

TEST_CASE("nn: settings of modules made from a row") {
  nn::CrossEntropyLoss loss(nn::kw("label_smoothing", 0.1), nn::kw("reduction", "sum"));
  CHECK(std::get<std::string>(loss->attr("reduction")) == "sum");
  nn::MaxPool2d pool(2);
  CHECK(pool(ones({1, 1, 4, 4})).sizes() == Dims{1, 1, 2, 2});
  CHECK(pool->repr() == "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)");
  nn::AdaptiveAvgPool2d mean({1, 1});
  CHECK(mean(ones({2, 3, 4, 4})).sizes() == Dims{2, 3, 1, 1});
  CHECK_THROWS_AS(nn::Dropout(nn::kw("q", 1)), TypeError);
  CHECK_THROWS_AS(nn::Dropout("a"), TypeError);
  CHECK_THROWS_AS(nn::MaxPool2d(), TypeError);
}

TEST_CASE("nn: convolution, norms, attention") {
  nn::Conv2d conv(3, 8, 3, {.stride = 2, .padding = {1, 1}});
  nn::BatchNorm2d norm(8);
  Tensor y = norm(conv(randn({2, 3, 8, 8})));
  CHECK(y.sizes() == Dims{2, 8, 4, 4});
  CHECK(norm->num_batches_tracked.item<int64_t>() == 1);
  nn::MultiheadAttention attention(8, 2, nn::AttentionOptions{.batch_first = true});
  Tensor x = randn({2, 5, 8});
  auto [out, weights] = attention(x, x, x);
  CHECK(out.sizes() == Dims{2, 5, 8});
  CHECK(weights.sizes() == Dims{2, 5, 5});
  attention->remove("out_proj");
  CHECK_THROWS_AS(attention(x, x, x), ValueError);
}

TEST_CASE("nn: call wrapper") {
  nn::Sequential net{nn::ReLU()};
  net->at(0)->set_call_wrapper([](nn::Module& m, TensorList xs) { return m.forward(xs[0]) + 1.0; });
  CHECK(net(zeros({1})).item() == 1.0);
}

TEST_CASE("nn: checkpointing gives the same bits, nested and under dropout") {
  nn::Sequential inner(nn::Linear(4, 8), nn::GELU(), nn::Dropout(0.5));
  nn::Sequential plain(inner, nn::Linear(8, 4), nn::Dropout(0.5));
  nn::Checkpoint twice(nn::Sequential(nn::Checkpoint(inner), plain->at(1), plain->at(2)));
  auto run = [&](nn::Module& net) {
    manual_seed(3);
    plain->zero_grad();
    Tensor x = arange(12).reshape({3, 4}).to(DType::F32).set_requires_grad(true);
    Tensor loss = sum(square(net(x)));
    loss.backward();
    std::vector<Tensor> out{loss, x.grad()};
    for (const Tensor& p : plain->parameters()) out.push_back(p.grad());
    return out;
  };
  std::vector<Tensor> a = run(*plain), b = run(*twice);
  for (size_t i = 0; i < a.size(); ++i) CHECK(equal(a[i], b[i]));
  CHECK_THROWS_AS(nn::CheckpointImpl(nullptr), ValueError);
}

TEST_CASE("nn: layers checkpointed in segments keep less and give the same bits") {
  std::vector<std::shared_ptr<nn::Module>> layers;
  for (int i = 0; i < 16; ++i) layers.push_back(nn::Tanh());
  Tensor x = randn({64, 64});
  x.set_requires_grad(true);
  auto peak = [&](int64_t segments) {
    x.set_grad({});
    allocator(Device()).reset_peak();
    const int64_t before = allocator(Device()).stats().live;
    sum(nn::checkpoint_sequential(layers, segments, x)).backward();
    return double(allocator(Device()).stats().peak - before) / (64 * 64 * 4);
  };
  const double whole = peak(1);
  const Tensor expected = x.grad();
  CHECK(whole >= 16);
  CHECK(peak(4) < 10.5);  // 3 inputs of segments, 4 values of one, 3 for backward on the way, and the sum
  CHECK(equal(x.grad(), expected));
  CHECK_THROWS_AS(nn::checkpoint_sequential(layers, 17, x), ValueError);
  CHECK_THROWS_AS(nn::checkpoint_sequential(layers, 0, x), ValueError);
}
