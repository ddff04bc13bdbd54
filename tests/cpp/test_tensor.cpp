// tg::Tensor as a C++ program uses it: operators, index expressions, assignment, printing, errors.
#include <doctest/doctest.h>

#include <sstream>

#include "ops/ops.h"

using namespace tg;

namespace {

std::string text(const Tensor& t) {
  std::ostringstream out;
  out << t;
  return out.str();
}

}  // namespace

TEST_CASE("tensor: operators take tensors and numbers, on either side, and broadcast") {
  Tensor x = arange(6).reshape({2, 3}), column = arange(2).reshape({2, 1});
  CHECK(text(x + column) == "tensor([[0, 1, 2],\n        [4, 5, 6]])");
  CHECK(equal(1 - x, -(x - 1)));
  CHECK((x * 2.5).dtype() == DType::F32);
  CHECK((x / 2).dtype() == DType::F32);
  Tensor y = x.clone();
  y += column;
  y *= 2;
  CHECK(equal(y, (x + column) * 2));
}

TEST_CASE("tensor: comparisons make masks, which combine and select") {
  Tensor x = arange(6);
  CHECK(text((x > 1) & (x <= 4)) == "tensor([False, False,  True,  True,  True, False])");
  CHECK(text(x[{(x == 2) | (5 == x)}]) == "tensor([2, 5])");
  CHECK(equal(~(x != 3), x == 3));
  CHECK(equal((x < 2) ^ (x >= 0), x >= 2));
}

TEST_CASE("tensor: index expressions are views where NumPy's are") {
  Tensor x = arange(12).reshape({3, 4});
  CHECK(equal(x[1], x[{1}]));
  CHECK(text(x[{Slice{1, 3, {}}, 2}]) == "tensor([ 6, 10])");
  CHECK(text(x[{IndexItem::ellipsis(), -1}]) == "tensor([ 3,  7, 11])");
  CHECK(x[{std::nullopt, 0}].sizes() == Dims{1, 4});
  Tensor flipped = x[{Slice{{}, {}, -1}, Slice{0, 4, 2}}];
  CHECK(text(flipped) == "tensor([[ 8, 10],\n        [ 4,  6],\n        [ 0,  2]])");
  CHECK(equal(x[{x > 8}], arange(9, 12)));
  CHECK(equal(x[{argmax(x, 0), arange(4)}], arange(8, 12)));
  flipped += 100;
  CHECK(x[{0, 2}].item<int64_t>() == 102);
}

TEST_CASE("tensor: assignment through an index expression") {
  Tensor x = zeros({3, 4});
  x.index_put_({Slice{0, 1, {}}}, 7);
  x.index_put_({IndexItem::ellipsis(), 3}, arange(3));
  CHECK(text(x) == "tensor([[7., 7., 7., 0.],\n        [0., 0., 0., 1.],\n        [0., 0., 0., 2.]])");
}

TEST_CASE("tensor: errors name the op, the operands and the dimension") {
  Tensor x = zeros({2, 3});
  CHECK_THROWS_WITH_AS(x + zeros({4}), doctest::Contains("dimension 1: 3 vs 4"), ShapeError);
  CHECK_THROWS_WITH_AS(x[2], doctest::Contains("out of bounds for dimension 0 with size 2"), IndexError);
  CHECK_THROWS_AS(zeros({-1}), ShapeError);
  CHECK_THROWS_AS(zeros({int64_t(1) << 40, int64_t(1) << 40}), ShapeError);
}
