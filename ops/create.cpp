// Tensors made from sizes and numbers.
#include "ops/create.h"

#include "ops/fast_path.h"

namespace tg {

using DTypeArg = std::optional<DType>;
using DeviceArg = std::optional<Device>;

void run_program(const Program& p, std::initializer_list<Tensor> ins, const Tensor& out) {
  if (out.numel() == 0) return;
  Views vi, vo;
  for (const Tensor& t : ins) vi.push_back(broadcast_to_view(t, out.sizes()));
  vo.push_back(View(out));
  backend(out.device()).map(p, vi, vo);
}

void fill_with(const Tensor& t, const Scalar& v) {
  if (t.numel() == 0) return;
  if (t.is_contiguous() && t.dtype() == compute_type(t.dtype())) {
    uint64_t room;
    const FlatOperand value{scalar_bytes(v, t.dtype(), room), true};
    if (backend(t.device()).map_flat(Opc::positive, t.dtype(), &value, 1, t.data(), t.numel())) return;
  }
  run_program(
      make_program(compute_type(t.dtype()), 0, {t.dtype() == DType::Bool ? Scalar(v.b()) : v}, {{Opc::Identity, {0}}}),
      {}, t);
}

Tensor int_tensor(const std::vector<int64_t>& values, IntList sizes, Device device) {
  Tensor t = empty_tensor(sizes, DType::I64, device);
  if (!values.empty()) backend(device).copy_bytes(t.data(), values.data(), values.size() * sizeof(int64_t));
  return t;
}

namespace {

Tensor make(IntList size, Scalar value, DType dtype, DeviceArg device, bool requires_grad, const char* op) {
  numel_of(size, op);
  Tensor t = empty_tensor(size, dtype, device.value_or(Device()));
  fill_with(t, value);
  return requiring_grad(t, requires_grad);
}

Tensor empty_body(IntList size, DTypeArg dtype, DeviceArg device, bool rg) {
  return requiring_grad(empty_tensor(size, dtype.value_or(default_dtype()), device.value_or(Device())), rg);
}
Tensor zeros_body(IntList size, DTypeArg dtype, DeviceArg device, bool rg) {
  return make(size, 0, dtype.value_or(default_dtype()), device, rg, "zeros");
}
Tensor ones_body(IntList size, DTypeArg dtype, DeviceArg device, bool rg) {
  return make(size, 1, dtype.value_or(default_dtype()), device, rg, "ones");
}
Tensor full_body(IntList size, Scalar value, DTypeArg dtype, DeviceArg device, bool rg) {
  DType t = dtype.value_or(value.dtype());
  return make(size, checked_scalar("full", value, t), t, device, rg, "full");
}
Tensor scalar_tensor_body(Scalar s, DTypeArg dtype, DeviceArg device, bool rg) {
  DType t = dtype.value_or(default_dtype());
  return make({}, checked_scalar("scalar_tensor", s, t), t, device, rg, "scalar_tensor");
}

Tensor empty_like_body(const Tensor& x, DTypeArg dtype, DeviceArg device, bool rg) {
  return empty_body(x.sizes(), dtype.value_or(x.dtype()), device.value_or(x.device()), rg);
}
Tensor zeros_like_body(const Tensor& x, DTypeArg dtype, DeviceArg device, bool rg) {
  return make(x.sizes(), 0, dtype.value_or(x.dtype()), device.value_or(x.device()), rg, "zeros_like");
}
Tensor ones_like_body(const Tensor& x, DTypeArg dtype, DeviceArg device, bool rg) {
  return make(x.sizes(), 1, dtype.value_or(x.dtype()), device.value_or(x.device()), rg, "ones_like");
}
Tensor full_like_body(const Tensor& x, Scalar value, DTypeArg dtype, DeviceArg device, bool rg) {
  DType t = dtype.value_or(x.dtype());
  return make(x.sizes(), checked_scalar("full_like", value, t), t, device.value_or(x.device()), rg, "full_like");
}

Tensor new_empty_body(const Tensor& x, IntList size, DTypeArg dtype, DeviceArg device, bool rg) {
  return empty(size, dtype.value_or(x.dtype()), device.value_or(x.device()), rg);
}
Tensor new_zeros_body(const Tensor& x, IntList size, DTypeArg dtype, DeviceArg device, bool rg) {
  return zeros(size, dtype.value_or(x.dtype()), device.value_or(x.device()), rg);
}
Tensor new_ones_body(const Tensor& x, IntList size, DTypeArg dtype, DeviceArg device, bool rg) {
  return ones(size, dtype.value_or(x.dtype()), device.value_or(x.device()), rg);
}
Tensor new_full_body(const Tensor& x, IntList size, Scalar value, DTypeArg dtype, DeviceArg device, bool rg) {
  return full(size, value, dtype.value_or(x.dtype()), device.value_or(x.device()), rg);
}

// Number of steps from start to end, both exact for integers.
int64_t arange_size(Scalar start, Scalar end, Scalar step, bool integers) {
  double a = start.d(), b = end.d(), s = step.d();
  TG_CHECK(std::isfinite(a) && std::isfinite(b), ValueError, "arange: bounds must be finite, got ", a, " and ", b);
  TG_CHECK(s != 0 && !std::isnan(s), ValueError, "arange: step must not be zero, got ", s);
  TG_CHECK(s > 0 ? a <= b : a >= b, ValueError, "arange: step ", s, " leads away from end; start=", a, ", end=", b);
  if (integers) {
    __int128 span = __int128(end.i()) - start.i(), st = step.i();
    __int128 n = (span + st + (st > 0 ? -1 : 1)) / st;
    TG_CHECK(n <= INT64_MAX, ValueError, "arange: more than 2^63 elements between ", start.i(), " and ", end.i());
    return int64_t(n);
  }
  double n = std::ceil((b - a) / s);
  TG_CHECK(n < 0x1p62, ValueError, "arange: too many elements between ", a, " and ", b, " with step ", s);
  return int64_t(n);
}

Tensor arange_start(Scalar start, Scalar end, Scalar step, DTypeArg dtype, DeviceArg device, bool rg) {
  bool integers = !start.is_float() && !end.is_float() && !step.is_float();
  DType t = dtype.value_or(integers ? DType::I64 : default_dtype());
  Tensor out = empty_tensor({arange_size(start, end, step, integers)}, t, device.value_or(Device()));
  DType compute = integers && !is_float(t) ? DType::I64 : DType::F64;
  run_program(make_program(compute, 0, {start, step}, {{Opc::Index}, {Opc::mul, {2, 1}}, {Opc::add, {0, 3}}}), {}, out);
  return requiring_grad(out, rg);
}
Tensor arange_end(Scalar end, DTypeArg dtype, DeviceArg device, bool rg) {
  return arange_start(0, end, 1, dtype, device, rg);
}

// Positions from both ends towards the middle, so that the last value is `end`
// exactly.
Program linspace_program(double start, double end, int64_t steps) {
  double step = steps > 1 ? (end - start) / double(steps - 1) : 0.0;
  return make_program(DType::F64, 0, {start, end, step, double(steps - 1), double(steps / 2)},
                      {{Opc::Index},                 // 5: i
                       {Opc::mul, {5, 2}},           // 6: i step
                       {Opc::add, {0, 6}},           // 7: start + i step
                       {Opc::sub, {3, 5}},           // 8: n - 1 - i
                       {Opc::mul, {8, 2}},           // 9
                       {Opc::sub, {1, 9}},           // 10: end - (n - 1 - i) step
                       {Opc::lt, {5, 4}},            // 11: first half
                       {Opc::where, {11, 7, 10}}});  // 12
}

Tensor linspace_body(Scalar start, Scalar end, int64_t steps, DTypeArg dtype, DeviceArg device, bool rg) {
  TG_CHECK(steps >= 0, ValueError, "linspace: steps must not be negative, got ", steps);
  Tensor out = empty_tensor({steps}, dtype.value_or(default_dtype()), device.value_or(Device()));
  if (steps == 1)
    fill_with(out, start);
  else
    run_program(linspace_program(start.d(), end.d(), steps), {}, out);
  return requiring_grad(out, rg);
}

Tensor logspace_body(Scalar start, Scalar end, int64_t steps, double base, DTypeArg dtype, DeviceArg device, bool rg) {
  TG_CHECK(steps >= 0, ValueError, "logspace: steps must not be negative, got ", steps);
  Tensor out = empty_tensor({steps}, dtype.value_or(default_dtype()), device.value_or(Device()));
  Program p = linspace_program(start.d(), steps == 1 ? start.d() : end.d(), steps);
  Program q = make_program(DType::F64, 1, {base}, {{Opc::pow, {1, 0}}});
  Tensor exponents = empty_tensor({steps}, DType::F64, out.device());
  run_program(p, {}, exponents);
  run_program(q, {exponents}, out);
  return requiring_grad(out, rg);
}

Tensor eye_body(int64_t n, std::optional<int64_t> m, DTypeArg dtype, DeviceArg device, bool rg) {
  int64_t cols = m.value_or(n);
  TG_CHECK(n >= 0 && cols >= 0, ValueError, "eye: sizes must not be negative, got ", n, " and ", cols);
  Tensor t = make({n, cols}, 0, dtype.value_or(default_dtype()), device, false, "eye");
  fill_with(make_view(t, {std::min(n, cols)}, {cols + 1}, 0), 1);
  return requiring_grad(t, rg);
}

std::vector<Tensor> meshgrid_body(TensorList tensors, std::optional<std::string_view> indexing) {
  std::string_view order = indexing.value_or("ij");
  TG_CHECK(order == "ij" || order == "xy", ValueError, "meshgrid: indexing must be 'ij' or 'xy', got '", order, "'");
  TG_CHECK(!tensors.empty(), ValueError, "meshgrid: expected at least one tensor");
  int n = int(tensors.size());
  bool swap = order == "xy" && n >= 2;
  Dims sizes;
  for (const Tensor& t : tensors) {
    TG_CHECK(t.ndim() <= 1, ShapeError, "meshgrid: expected tensors of 0 or 1 dimensions, got ", describe(t));
    TG_CHECK(t.dtype() == tensors[0].dtype() && t.device() == tensors[0].device(), DTypeError,
             "meshgrid: tensors must have one dtype and device, got ", describe(tensors[0]), " and ", describe(t));
    sizes.push_back(t.numel());
  }
  if (swap) std::swap(sizes[0], sizes[1]);
  std::vector<Tensor> out;
  for (int i = 0; i < n; ++i) {
    int axis = swap && i < 2 ? 1 - i : i;
    Dims one = Dims::filled(n, 1);
    one[axis] = tensors[i].numel();
    out.push_back(expand(reshape(tensors[i], one), sizes));
  }
  return out;
}

TG_OP("empty(int[] size, *, dtype? dtype=None, device? device=None, bool requires_grad=False) -> Tensor",
      .doc = "Uninitialised tensor of the given size.", .primitive = box<empty_body>, .flags = kNoGrad,
      .samples = "[2, 3]; [0]; [], dtype=DT('int64')", .notes = "random");
TG_OP("zeros(int[] size, *, dtype? dtype=None, device? device=None, bool requires_grad=False) -> Tensor",
      .doc = "Tensor of zeros.", .primitive = box<zeros_body>, .flags = kNoGrad,
      .samples = "[2, 3]; [0, 4]; []; [3], dtype=DT('int64'); [2], dtype=DT('bool'); [2, 2], requires_grad=True");
TG_OP("ones(int[] size, *, dtype? dtype=None, device? device=None, bool requires_grad=False) -> Tensor",
      .doc = "Tensor of ones.", .primitive = box<ones_body>, .flags = kNoGrad,
      .samples = "[2, 3]; [0, 4]; []; [3], dtype=DT('int64'); [2], dtype=DT('bool'); [17], dtype=DT('float16')");
TG_OP(
    "full(int[] size, Scalar fill_value, *, dtype? dtype=None, device? device=None, bool requires_grad=False) -> "
    "Tensor",
    .doc = "Tensor filled with one number, whose kind gives the dtype unless dtype is set.",
    .primitive = box<full_body>, .flags = kNoGrad,
    .samples = "[2, 3], 1.5; [2], 7; [3], True; [], -2.0; [2], 3, dtype=DT('float64'); [2], 2.5, dtype=DT('int32')");
TG_OP("scalar_tensor(Scalar s, *, dtype? dtype=None, device? device=None, bool requires_grad=False) -> Tensor",
      .doc = "0-d tensor of one number.", .primitive = box<scalar_tensor_body>, .flags = kNoGrad,
      .samples = "2.5; 3, dtype=DT('int64'); True, dtype=DT('bool')");
TG_OP("empty_like(Tensor input, *, dtype? dtype=None, device? device=None, bool requires_grad=False) -> Tensor",
      .doc = "Uninitialised tensor with the size, dtype and device of input.", .primitive = box<empty_like_body>,
      .flags = kNoGrad | kFunctionOnly, .samples = "T(2,3); T(); I(3, hi=5), dtype=DT('float32')", .notes = "random");
TG_OP("zeros_like(Tensor input, *, dtype? dtype=None, device? device=None, bool requires_grad=False) -> Tensor",
      .doc = "Zeros with the size, dtype and device of input.", .primitive = box<zeros_like_body>,
      .flags = kNoGrad | kFunctionOnly, .samples = "T(2,3); T(); I(3, hi=5); T(2), dtype=DT('int64')");
TG_OP("ones_like(Tensor input, *, dtype? dtype=None, device? device=None, bool requires_grad=False) -> Tensor",
      .doc = "Ones with the size, dtype and device of input.", .primitive = box<ones_like_body>,
      .flags = kNoGrad | kFunctionOnly, .samples = "T(2,3); T(); I(3, hi=5); T(2), dtype=DT('int64')");
TG_OP(
    "full_like(Tensor input, Scalar fill_value, *, dtype? dtype=None, device? device=None, bool requires_grad=False) "
    "-> Tensor",
    .doc = "One number with the size, dtype and device of input.", .primitive = box<full_like_body>,
    .flags = kNoGrad | kFunctionOnly, .samples = "T(2,3), 1.5; T(), 2; I(3, hi=5), 7; T(2), 3, dtype=DT('int64')");
TG_OP(
    "new_empty(Tensor input, int[] size, *, dtype? dtype=None, device? device=None, bool requires_grad=False) -> "
    "Tensor",
    .doc = "Uninitialised tensor of the given size with the dtype and device of input.",
    .composite = box<new_empty_body>, .flags = kMethodOnly | kNoGrad, .samples = "T(2), [3, 4]; I(2, hi=3), [0]",
    .notes = "random");
TG_OP(
    "new_zeros(Tensor input, int[] size, *, dtype? dtype=None, device? device=None, bool requires_grad=False) -> "
    "Tensor",
    .doc = "Zeros of the given size with the dtype and device of input.", .composite = box<new_zeros_body>,
    .flags = kMethodOnly | kNoGrad, .samples = "T(2), [3, 4]; I(2, hi=3), [2]; T(2), [2], dtype=DT('int32')");
TG_OP(
    "new_ones(Tensor input, int[] size, *, dtype? dtype=None, device? device=None, bool requires_grad=False) -> Tensor",
    .doc = "Ones of the given size with the dtype and device of input.", .composite = box<new_ones_body>,
    .flags = kMethodOnly | kNoGrad, .samples = "T(2), [3, 4]; I(2, hi=3), [2]; T(2), [2], dtype=DT('int32')");
TG_OP(
    "new_full(Tensor input, int[] size, Scalar fill_value, *, dtype? dtype=None, device? device=None, bool "
    "requires_grad=False) -> Tensor",
    .doc = "One number in the given size with the dtype and device of input.", .composite = box<new_full_body>,
    .flags = kMethodOnly | kNoGrad, .samples = "T(2), [3, 4], 2.5; I(2, hi=3), [2], 7");
TG_OP("arange(Scalar end, *, dtype? dtype=None, device? device=None, bool requires_grad=False) -> Tensor",
      .doc = "0, 1, ... below end.", .primitive = box<arange_end>, .flags = kNoGrad,
      .samples = "5; 0; 4.5; 7, dtype=DT('float32'); 130; 33, dtype=DT('float16')");
TG_OP(
    "arange.start(Scalar start, Scalar end, Scalar step=1, *, dtype? dtype=None, device? device=None, bool "
    "requires_grad=False) -> Tensor",
    .doc = "start, start + step, ... before end. Integers give int64.", .primitive = box<arange_start>,
    .flags = kNoGrad,
    .samples = "1, 6; 0, 10, 3; 10, 0, -3; 0.0, 1.0, 0.125; 5, 1, -1; -2, 2, dtype=DT('int32'); 2, 2; 0, 3, 0.5");
TG_OP(
    "linspace(Scalar start, Scalar end, int steps, *, dtype? dtype=None, device? device=None, bool "
    "requires_grad=False) -> Tensor",
    .doc = "steps values from start to end, both included, evenly spaced.", .primitive = box<linspace_body>,
    .flags = kNoGrad,
    .samples = "0, 1, 5; -1.5, 2.5, 8, dtype=DT('float64'); 3, 3, 1; 0, 1, 0; 10, 0, 11; 0, 10, 5, dtype=DT('int64')");
TG_OP(
    "logspace(Scalar start, Scalar end, int steps, float base=10.0, *, dtype? dtype=None, device? device=None, bool "
    "requires_grad=False) -> Tensor",
    .doc = "base to the power of steps values evenly spaced from start to end.", .primitive = box<logspace_body>,
    .flags = kNoGrad, .samples = "0, 2, 5; -1, 1, 4, base=2.0; 1, 3, 1; 0, 1, 0");
TG_OP("eye(int n, int? m=None, *, dtype? dtype=None, device? device=None, bool requires_grad=False) -> Tensor",
      .doc = "Matrix with ones on the diagonal and zeros elsewhere.", .primitive = box<eye_body>, .flags = kNoGrad,
      .samples = "3; 2, 4; 4, 2; 0; 3, dtype=DT('int64'); 2, dtype=DT('bool')");
TG_OP("meshgrid(Tensor[] tensors, *, str? indexing=None) -> Tensor[]",
      .doc =
          "Grids of coordinates from vectors: result i varies along dimension i ('ij', the default); 'xy' swaps the "
          "first two.",
      .composite = box<meshgrid_body>, .flags = kFunctionOnly,
      .samples = "[T(2), T(3)]; [T(2), T(3), T(4)], indexing='ij'; [T(2), T(3)], indexing='xy'; [T(), T(2)]; [T(3)]");
}  // namespace
}  // namespace tg
