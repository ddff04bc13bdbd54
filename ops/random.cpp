// Random numbers. Every op takes one offset from its generator and draws by element index, so the values depend on the
// seed and the op's place in the program alone.

#include "backends/cuda.h"
#include "ops/create.h"
#include "ops/fast_path.h"
#include "ops/grads.h"
#include "ops/index.h"
#include "ops/pointwise.h"

namespace tg {

RandomPlace place_draw(Generator* generator, Device d) {
  Generator& g = generator ? *generator : default_generator();
  RandomPlace p{.seed = g.seed(), .offset = g.next()};
  if (d.is_cpu() || !cuda::capturing()) return p;
  const auto [seed, from, of_replay] = cuda::runtime().capture_origin(d.index, p.offset);
  TG_CHECK(
      &g == &default_generator() && p.seed == seed && p.offset >= from, NotImplementedError,
      "a graph draws from the default generator as it was seeded before; other random numbers would be the same in "
      "every replay");
  p.origin = of_replay;
  p.offset -= from;
  return p;
}

namespace {

using DTypeArg = std::optional<DType>;
using DeviceArg = std::optional<Device>;

// ---- distributions as programs

// Writes draws of `p`, which may read `ins`, into `out`.
void draw(Program p, Generator* generator, std::initializer_list<Tensor> ins, const Tensor& out) {
  static_cast<RandomPlace&>(p) = place_draw(generator, out.device());
  run_program(p, ins, out);
}

Program uniform_program(DType t, double lo, double hi) {
  DType c = compute_type(t);
  if (!is_half(t))
    return make_program(c, 0, {hi - lo, lo}, {{Opc::RandUniform}, {Opc::mul, {2, 0}}, {Opc::add, {3, 1}}});
  // As many bits as the type has, or rounding would give 1.
  double steps = t == DType::F16 ? 2048.0 : 256.0;
  return make_program(c, 0, {hi - lo, lo, steps, 1 / steps},
                      {{Opc::RandUniform},
                       {Opc::mul, {4, 2}},
                       {Opc::floor, {5}},
                       {Opc::mul, {6, 3}},
                       {Opc::mul, {7, 0}},
                       {Opc::add, {8, 1}}});
}
Program normal_program(DType t, double mean, double std) {
  return make_program(compute_type(t), 0, {std, mean}, {{Opc::RandNormal}, {Opc::mul, {2, 0}}, {Opc::add, {3, 1}}});
}

int64_t largest_int(DType t) {
  if (t == DType::Bool) return 1;
  if (t == DType::U8) return 255;
  return int64_t((uint64_t(1) << (itemsize(t) * 8 - 1)) - 1);
}

// Integers in [lo, hi).
Program integer_program(const char* op, DType t, int64_t lo, int64_t hi) {
  TG_CHECK(lo < hi, ValueError, op, ": the range is empty, from ", lo, " to ", hi);
  if (!is_float(t)) {
    int64_t top = largest_int(t), bottom = t == DType::Bool || t == DType::U8 ? 0 : -top - 1;
    TG_CHECK(lo >= bottom && hi - 1 <= top, ValueError, op, ": range from ", lo, " to ", hi, " does not fit into ",
             name(t));
  }
  int64_t span;
  TG_CHECK(!__builtin_sub_overflow(hi, lo, &span), ValueError, op, ": range from ", lo, " to ", hi,
           " has more than 2^63 values");
  return make_program(DType::I64, 0, {span, lo}, {{Opc::RandBits}, {Opc::remainder, {2, 0}}, {Opc::add, {3, 1}}});
}

// ---- new tensors

Tensor made(const char* op, IntList size, DTypeArg dtype, DeviceArg device) {
  DType t = dtype.value_or(default_dtype());
  TG_CHECK(is_float(t), DTypeError, op, ": expected a floating-point dtype, got ", name(t));
  numel_of(size, op);
  return empty_tensor(size, t, device.value_or(Device()));
}

Tensor rand_body(IntList size, DTypeArg dtype, DeviceArg device, bool rg, Generator* g) {
  Tensor t = made("rand", size, dtype, device);
  draw(uniform_program(t.dtype(), 0, 1), g, {}, t);
  return requiring_grad(t, rg);
}
Tensor randn_body(IntList size, DTypeArg dtype, DeviceArg device, bool rg, Generator* g) {
  Tensor t = made("randn", size, dtype, device);
  draw(normal_program(t.dtype(), 0, 1), g, {}, t);
  return requiring_grad(t, rg);
}
Tensor randint_body(int64_t low, int64_t high, IntList size, DTypeArg dtype, DeviceArg device, bool rg, Generator* g) {
  numel_of(size, "randint");
  Tensor t = empty_tensor(size, dtype.value_or(DType::I64), device.value_or(Device()));
  draw(integer_program("randint", t.dtype(), low, high), g, {}, t);
  return requiring_grad(t, rg);
}
Tensor randint_high(int64_t high, IntList size, DTypeArg dtype, DeviceArg device, bool rg, Generator* g) {
  return randint_body(0, high, size, dtype, device, rg, g);
}

Tensor rand_like_body(const Tensor& x, DTypeArg dtype, DeviceArg device, bool rg, Generator* g) {
  return rand_body(x.sizes(), dtype.value_or(x.dtype()), device.value_or(x.device()), rg, g);
}
Tensor randn_like_body(const Tensor& x, DTypeArg dtype, DeviceArg device, bool rg, Generator* g) {
  return randn_body(x.sizes(), dtype.value_or(x.dtype()), device.value_or(x.device()), rg, g);
}
Tensor randint_like_body(const Tensor& x, int64_t low, int64_t high, DTypeArg dtype, DeviceArg device, bool rg,
                         Generator* g) {
  return randint_body(low, high, x.sizes(), dtype.value_or(x.dtype()), device.value_or(x.device()), rg, g);
}
Tensor randint_like_high(const Tensor& x, int64_t high, DTypeArg dtype, DeviceArg device, bool rg, Generator* g) {
  return randint_like_body(x, 0, high, dtype, device, rg, g);
}

// The order that sorts random keys.
Tensor randperm_body(int64_t n, DTypeArg dtype, DeviceArg device, bool rg, Generator* g) {
  TG_CHECK(n >= 0, ValueError, "randperm: n must not be negative, got ", n);
  Device dev = device.value_or(Device());
  Tensor keys = empty_tensor({n}, DType::I64, dev), order = empty_tensor({n}, DType::I64, dev);
  draw(make_program(DType::I64, 0, {}, {{Opc::RandBits}}), g, {}, keys);
  if (n > 0) backend(dev).sort(View(keys), 0, false, View(), View(order));
  return requiring_grad(narrow_to(order, dtype.value_or(DType::I64)), rg);
}

// ---- normal with a mean or deviation per element

void check_std(const char* op, const Tensor& std) {
  require_all(ge(std, 0), op, ": standard deviations must not be negative; std=", describe(std));
}
void check_std(const char* op, double std) {
  TG_CHECK(std >= 0, ValueError, op, ": standard deviation must not be negative, got ", std);
}
Tensor scaled_normal(const Tensor& shape_of, const Operand& mean, const Operand& std, Generator* g) {
  TG_CHECK(is_float(shape_of.dtype()), DTypeError, "normal: expected floating-point parameters, got ",
           describe(shape_of));
  return add(mul(randn_like(shape_of, std::nullopt, std::nullopt, false, g), std), mean);
}
Tensor normal_tensor_float(const Tensor& mean, double std, Generator* g) {
  check_std("normal", std);
  return scaled_normal(mean, mean, std, g);
}
Tensor normal_tensor_tensor(const Tensor& mean, const Tensor& std, Generator* g) {
  check_std("normal", std);
  return scaled_normal(expand(mean, broadcast_shapes("normal", mean.sizes(), std.sizes())), mean, to(std, mean), g);
}
Tensor normal_float_tensor(double mean, const Tensor& std, Generator* g) {
  check_std("normal", std);
  return scaled_normal(std, mean, std, g);
}
Tensor normal_float_float(double mean, double std, IntList size, DTypeArg dtype, DeviceArg device, bool rg,
                          Generator* g) {
  check_std("normal", std);
  Tensor t = made("normal", size, dtype, device);
  draw(normal_program(t.dtype(), mean, std), g, {}, t);
  return requiring_grad(t, rg);
}

// ---- filling a tensor: each has a form that fills its first argument and one that fills a new tensor like it

void need_float(const char* op, const Tensor& x) {
  TG_CHECK(is_float(x.dtype()), DTypeError, op, ": expected a floating-point tensor, input=", describe(x));
}

void fill_normal(const Tensor& x, double mean, double std, Generator* g) {
  need_float("normal_", x);
  check_std("normal_", std);
  draw(normal_program(x.dtype(), mean, std), g, {}, x);
}
void fill_uniform(const Tensor& x, double from, double to, Generator* g) {
  need_float("uniform_", x);
  TG_CHECK(from <= to && std::isfinite(to - from), ValueError,
           "uniform_: expected finite bounds in order, got from=", from, " and to=", to);
  draw(uniform_program(x.dtype(), from, to), g, {}, x);
}
void fill_integers(const Tensor& x, int64_t from, int64_t to, Generator* g) {
  draw(integer_program("random_", x.dtype(), from, to), g, {}, x);
}
void fill_below(const Tensor& x, int64_t to, Generator* g) { fill_integers(x, 0, to, g); }
// All values of an integer type from 0 on; for floating point the integers it holds exactly.
void fill_random(const Tensor& x, Generator* g) {
  if (x.dtype() == DType::I64) return draw(make_program(DType::I64, 0, {}, {{Opc::RandBits}}), g, {}, x);
  int bits = x.dtype() == DType::F64 ? 53 : x.dtype() == DType::F32 ? 24 : x.dtype() == DType::F16 ? 11 : 8;
  fill_integers(x, 0, (is_float(x.dtype()) ? int64_t(1) << bits : largest_int(x.dtype())) + 1, g);
}
void fill_exponential(const Tensor& x, double lambd, Generator* g) {
  need_float("exponential_", x);
  TG_CHECK(lambd > 0, ValueError, "exponential_: lambd must be positive, got ", lambd);
  draw(make_program(compute_type(x.dtype()), 0, {-1 / lambd},
                    {{Opc::RandUniform}, {Opc::neg, {1}}, {Opc::log1p, {2}}, {Opc::mul, {3, 0}}}),
       g, {}, x);
}
void fill_geometric(const Tensor& x, double p, Generator* g) {
  TG_CHECK(p > 0 && p < 1, ValueError, "geometric_: p must lie in (0, 1), got ", p);
  DType c = is_float(x.dtype()) ? compute_type(x.dtype()) : DType::F64;
  draw(make_program(c, 0, {1 / std::log1p(-p), 1.0},
                    {{Opc::RandUniform},
                     {Opc::neg, {2}},
                     {Opc::log1p, {3}},
                     {Opc::mul, {4, 0}},
                     {Opc::ceil, {5}},
                     {Opc::clamp_min, {6, 1}}}),
       g, {}, x);
}
void fill_log_normal(const Tensor& x, double mean, double std, Generator* g) {
  need_float("log_normal_", x);
  TG_CHECK(std > 0, ValueError, "log_normal_: standard deviation must be positive, got ", std);
  draw(make_program(compute_type(x.dtype()), 0, {std, mean},
                    {{Opc::RandNormal}, {Opc::mul, {2, 0}}, {Opc::add, {3, 1}}, {Opc::exp, {4}}}),
       g, {}, x);
}
void fill_cauchy(const Tensor& x, double median, double sigma, Generator* g) {
  need_float("cauchy_", x);
  TG_CHECK(sigma > 0, ValueError, "cauchy_: sigma must be positive, got ", sigma);
  draw(make_program(compute_type(x.dtype()), 0, {0.5, 3.141592653589793, sigma, median},
                    {{Opc::RandUniform},
                     {Opc::sub, {4, 0}},
                     {Opc::mul, {5, 1}},
                     {Opc::tan, {6}},
                     {Opc::mul, {7, 2}},
                     {Opc::add, {8, 3}}}),
       g, {}, x);
}

void check_p(const char* op, const Tensor& p) {
  need_float(op, p);
  require_all(logical_and(ge(p, 0), le(p, 1)), op, ": probabilities must lie in [0, 1]; p=", describe(p));
}
// 1 where a uniform number is below the probability.
void draw_bernoulli(const Tensor& x, const Tensor& p, Generator* g) {
  draw(make_program(compute_type(p.dtype()), 1, {}, {{Opc::RandUniform}, {Opc::lt, {1, 0}}}), g, {p}, x);
}
void fill_bernoulli_tensor(const Tensor& x, const Tensor& p, Generator* g) {
  check_p("bernoulli_", p);
  TG_CHECK(broadcastable_to(p.sizes(), x.sizes()), ShapeError, "bernoulli_: p of size ", p.sizes(),
           " does not broadcast to ", x.sizes(), "; input=", describe(x), ", p=", describe(p));
  draw_bernoulli(x, p, g);
}
void fill_bernoulli(const Tensor& x, double p, Generator* g) {
  TG_CHECK(p >= 0 && p <= 1, ValueError, "bernoulli_: p must lie in [0, 1], got ", p);
  DType c = is_float(x.dtype()) ? compute_type(x.dtype()) : DType::F64;
  draw(make_program(c, 0, {p}, {{Opc::RandUniform}, {Opc::lt, {1, 0}}}), g, {}, x);
}
Tensor bernoulli_body(const Tensor& p, Generator* g) {
  check_p("bernoulli", p);
  Tensor t = empty_like_tensor(p);
  draw_bernoulli(t, p, g);
  return t;
}

// box<functional<F>> and filler<F>: the two forms of `void F(const Tensor& x, P...)`.
template <auto F, class... P>
Tensor filled(const Tensor& x, P... p) {
  Tensor t = empty_like_tensor(x);
  F(t, p...);
  return t;
}
template <auto F, class... P>
Tensor filled_itself(const Tensor& x, P... p) {
  reject_self_overlap("random", x);
  F(x, p...);
  return x;
}
template <auto F, class... P>
constexpr Body functional(void (*)(const Tensor&, P...)) {
  return box<&filled<F, P...>>;
}
template <auto F, class... P>
constexpr Body inplace(void (*)(const Tensor&, P...)) {
  return box<&filled_itself<F, P...>>;
}
#define TG_FILL(f) .primitive = functional<&f>(&f), .inplace = inplace<&f>(&f), .grads = {{0, zero_grad}}

// ---- multinomial

void check_weights(const Tensor& p, int64_t n, bool replacement) {
  TG_CHECK(p.ndim() == 1 || p.ndim() == 2, ShapeError, "multinomial: expected 1 or 2 dimensions, got ", p.ndim(),
           "; input=", describe(p));
  need_float("multinomial", p);
  TG_CHECK(n > 0, ValueError, "multinomial: num_samples must be positive, got ", n);
  TG_CHECK(p.size(-1) > 0, ValueError, "multinomial: no categories to sample from; input=", describe(p));
  require_all(logical_and(ge(p, 0), isfinite(p)),
              "multinomial: weights must be finite and not negative; input=", describe(p));
  Tensor choices = sum(gt(p, 0), {-1});
  require_all(gt(choices, 0), "multinomial: the weights of a row sum to 0; input=", describe(p));
  if (!replacement)
    require_all(ge(choices, n), "multinomial: ", n,
                " samples without replacement need as many categories with a weight above 0; input=", describe(p));
}

Tensor multinomial_body(const Tensor& input, int64_t n, bool replacement, Generator* g) {
  check_weights(input, n, replacement);
  Tensor p = to(input, DType::F64);
  if (!replacement) {
    // Exponential races: the order of p / e with e exponential is that of draws without replacement.
    Tensor keys = empty_like_tensor(p), order = empty_like_tensor(p, DType::I64);
    draw(make_program(DType::F64, 1, {1e-300},
                      {{Opc::RandUniform},
                       {Opc::neg, {2}},
                       {Opc::log1p, {3}},
                       {Opc::neg, {4}},
                       {Opc::clamp_min, {5, 1}},
                       {Opc::div, {0, 6}}}),
         g, {p}, keys);
    if (keys.numel() > 0) backend(p.device()).sort(View(keys), p.ndim() - 1, true, View(), View(order));
    return clone(narrow(order, -1, 0, n));
  }
  Dims sizes = p.sizes();
  sizes[p.ndim() - 1] = n;
  Tensor sums = cumsum(p, -1), u = empty_tensor(sizes, DType::F64, p.device());
  draw(uniform_program(DType::F64, 0, 1), g, {}, u);
  // The first category whose running sum exceeds u * total; u < 1 keeps it inside. Sums never fall, so its place is the
  // number of those that do not: by counting where a search, which is the CPU's, cannot be recorded.
  const Tensor limit = u * narrow(sums, -1, p.size(-1) - 1, 1);
  if (recorded(p)) return sum(le(unsqueeze(sums, -2), unsqueeze(limit, -1)), -1);
  return searchsorted(sums, limit, false, true);
}

TG_OP(
    "rand(int[] size, *, dtype? dtype=None, device? device=None, bool requires_grad=False, Generator? generator=None) "
    "-> Tensor",
    .doc = "Uniform numbers in [0, 1).", .primitive = box<rand_body>, .flags = kNoGrad | kRandom,
    .samples = "[3, 4]; [0]; []; [5], dtype=DT('float16'); [2, 2], requires_grad=True", .notes = "random");
TG_OP(
    "randn(int[] size, *, dtype? dtype=None, device? device=None, bool requires_grad=False, Generator? generator=None) "
    "-> Tensor",
    .doc = "Standard normal numbers.", .primitive = box<randn_body>, .flags = kNoGrad | kRandom,
    .samples = "[3, 4]; [0]; []; [5], dtype=DT('float64'); [2, 2], requires_grad=True", .notes = "random");
TG_OP(
    "randint(int high, int[] size, *, dtype? dtype=None, device? device=None, bool requires_grad=False, Generator? "
    "generator=None) -> Tensor",
    .doc = "Integers in [0, high); int64 unless dtype is set.", .primitive = box<randint_high>,
    .flags = kNoGrad | kRandom, .samples = "10, [3, 4]; 1, []; 5, [2], dtype=DT('float32')", .notes = "random");
TG_OP(
    "randint.low(int low, int high, int[] size, *, dtype? dtype=None, device? device=None, bool requires_grad=False, "
    "Generator? generator=None) -> Tensor",
    .doc = "Integers in [low, high); int64 unless dtype is set.", .primitive = box<randint_body>,
    .flags = kNoGrad | kRandom, .samples = "-5, 5, [3, 4]; 2, 3, [2]; 0, 9, [0]; 0, 200, [3], dtype=DT('uint8')",
    .notes = "random");
TG_OP(
    "rand_like(Tensor input, *, dtype? dtype=None, device? device=None, bool requires_grad=False, Generator? "
    "generator=None) -> Tensor",
    .doc = "Uniform numbers in [0, 1) with the size, dtype and device of input.", .primitive = box<rand_like_body>,
    .flags = kNoGrad | kRandom | kFunctionOnly, .samples = "T(3,4); T(); I(3, hi=5), dtype=DT('float32')",
    .notes = "random");
TG_OP(
    "randn_like(Tensor input, *, dtype? dtype=None, device? device=None, bool requires_grad=False, Generator? "
    "generator=None) -> Tensor",
    .doc = "Standard normal numbers with the size, dtype and device of input.", .primitive = box<randn_like_body>,
    .flags = kNoGrad | kRandom | kFunctionOnly, .samples = "T(3,4); T(); I(3, hi=5), dtype=DT('float32')",
    .notes = "random");
TG_OP(
    "randint_like(Tensor input, int high, *, dtype? dtype=None, device? device=None, bool requires_grad=False, "
    "Generator? generator=None) -> Tensor",
    .doc = "Integers in [0, high) with the size, dtype and device of input.", .primitive = box<randint_like_high>,
    .flags = kNoGrad | kRandom | kFunctionOnly, .samples = "T(3,4), 5; I(3, hi=5), 2", .notes = "random");
TG_OP(
    "randint_like.low(Tensor input, int low, int high, *, dtype? dtype=None, device? device=None, bool "
    "requires_grad=False, Generator? generator=None) -> Tensor",
    .doc = "Integers in [low, high) with the size, dtype and device of input.", .primitive = box<randint_like_body>,
    .flags = kNoGrad | kRandom | kFunctionOnly, .samples = "T(3,4), -2, 5; I(3, hi=5), 0, 2", .notes = "random");
TG_OP(
    "randperm(int n, *, dtype? dtype=None, device? device=None, bool requires_grad=False, Generator? generator=None) "
    "-> Tensor",
    .doc = "0 to n - 1 in random order.", .primitive = box<randperm_body>, .flags = kNoGrad | kRandom,
    .samples = "10; 0; 1; 130, dtype=DT('int32')", .notes = "random");
TG_OP("normal.fill(Tensor input, float mean=0.0, float std=1.0, *, Generator? generator=None) -> Tensor",
      .doc = "Normal numbers in every element.", TG_FILL(fill_normal), .flags = kHidden | kMakeInplace | kRandom,
      .torch = "none", .samples = "T(3,4); T(3), 1.0, 0.5", .notes = "random");
TG_OP("normal.tensor_float(Tensor mean, float std=1.0, *, Generator? generator=None) -> Tensor",
      .doc = "Normal numbers with a mean per element.", .primitive = box<normal_tensor_float>,
      .flags = kNoGrad | kRandom | kFunctionOnly, .samples = "T(3,4), 2.0; T(3)", .notes = "random");
TG_OP("normal.tensor_tensor(Tensor mean, Tensor std, *, Generator? generator=None) -> Tensor",
      .doc = "Normal numbers with a mean and standard deviation per element; the two broadcast.",
      .primitive = box<normal_tensor_tensor>, .flags = kNoGrad | kRandom | kFunctionOnly,
      .samples = "T(3,4), T(3,4, lo=0.1, hi=2); T(3,4), T(4, lo=0.1, hi=2)", .notes = "random");
TG_OP("normal.float_tensor(float mean, Tensor std, *, Generator? generator=None) -> Tensor",
      .doc = "Normal numbers with a standard deviation per element.", .primitive = box<normal_float_tensor>,
      .flags = kNoGrad | kRandom | kFunctionOnly, .samples = "1.0, T(3,4, lo=0.1, hi=2)", .notes = "random");
TG_OP(
    "normal.float_float(float mean, float std, int[] size, *, dtype? dtype=None, device? device=None, bool "
    "requires_grad=False, Generator? generator=None) -> Tensor",
    .doc = "Normal numbers with one mean and standard deviation.", .primitive = box<normal_float_float>,
    .flags = kNoGrad | kRandom | kFunctionOnly, .samples = "1.0, 2.0, [3, 4]; 0.0, 0.0, [2]", .notes = "random");
TG_OP("bernoulli(Tensor input, *, Generator? generator=None) -> Tensor",
      .doc = "1 with the probability input gives for each element, else 0.", .primitive = box<bernoulli_body>,
      .grads = {{0, zero_grad}}, .flags = kRandom, .samples = "T(3,4, lo=0, hi=1); T(lo=0, hi=1)", .notes = "random");
TG_OP("bernoulli.p(Tensor input, float p=0.5, *, Generator? generator=None) -> Tensor",
      .doc = "1 with probability p, else 0, in the size and dtype of input.", TG_FILL(fill_bernoulli),
      .flags = kMakeInplace | kRandom, .samples = "T(3,4), 0.3; I(3, hi=5), 1.0; B(4), 0.5", .notes = "random");
TG_OP("bernoulli.tensor(Tensor input, Tensor p, *, Generator? generator=None) -> Tensor",
      .doc = "1 with the probability p gives for each element, in the size and dtype of input.",
      TG_FILL(fill_bernoulli_tensor), .flags = kHidden | kMakeInplace | kRandom, .torch = "none",
      .samples = "T(3,4), C(3,4, lo=0, hi=1); I(3, hi=5), C(lo=0, hi=1)", .notes = "random");
TG_OP("uniform(Tensor input, float from=0.0, float to=1.0, *, Generator? generator=None) -> Tensor",
      .doc = "Uniform numbers in [from, to).", TG_FILL(fill_uniform), .flags = kHidden | kMakeInplace | kRandom,
      .torch = "none", .samples = "T(3,4); T(3), -1.0, 2.0", .notes = "random");
TG_OP("random(Tensor input, *, Generator? generator=None) -> Tensor",
      .doc = "All integers of the dtype from 0 on; for floating point those it holds without gaps.",
      TG_FILL(fill_random), .flags = kHidden | kMakeInplace | kRandom, .torch = "none",
      .samples = "I(3, hi=5); T(3); B(4)", .notes = "random");
TG_OP("random.to(Tensor input, int to, *, Generator? generator=None) -> Tensor", .doc = "Integers in [0, to).",
      TG_FILL(fill_below), .flags = kHidden | kMakeInplace | kRandom, .torch = "none",
      .samples = "I(3, hi=5), 7; T(3), 2", .notes = "random");
TG_OP("random.from(Tensor input, int from, int to, *, Generator? generator=None) -> Tensor",
      .doc = "Integers in [from, to).", TG_FILL(fill_integers), .flags = kHidden | kMakeInplace | kRandom,
      .torch = "none", .samples = "I(3, hi=5), -3, 7; T(3), 2, 3", .notes = "random");
TG_OP("exponential(Tensor input, float lambd=1.0, *, Generator? generator=None) -> Tensor",
      .doc = "Exponential numbers with rate lambd.", TG_FILL(fill_exponential),
      .flags = kHidden | kMakeInplace | kRandom, .torch = "none", .samples = "T(3,4); T(3), 2.0", .notes = "random");
TG_OP("geometric(Tensor input, float p, *, Generator? generator=None) -> Tensor",
      .doc = "Number of trials up to the first success of probability p.", TG_FILL(fill_geometric),
      .flags = kHidden | kMakeInplace | kRandom, .torch = "none", .samples = "T(3,4), 0.3; I(3, hi=5), 0.5",
      .notes = "random");
TG_OP("log_normal(Tensor input, float mean=1.0, float std=2.0, *, Generator? generator=None) -> Tensor",
      .doc = "exp of normal numbers with this mean and standard deviation.", TG_FILL(fill_log_normal),
      .flags = kHidden | kMakeInplace | kRandom, .torch = "none", .samples = "T(3,4); T(3), 0.0, 0.5",
      .notes = "random");
TG_OP("cauchy(Tensor input, float median=0.0, float sigma=1.0, *, Generator? generator=None) -> Tensor",
      .doc = "Cauchy numbers.", TG_FILL(fill_cauchy), .flags = kHidden | kMakeInplace | kRandom, .torch = "none",
      .samples = "T(3,4); T(3), 1.0, 0.5", .notes = "random");
TG_OP("multinomial(Tensor input, int num_samples, bool replacement=False, *, Generator? generator=None) -> Tensor",
      .doc = "num_samples indices per row, drawn with the row's elements as weights.",
      .primitive = box<multinomial_body>, .flags = kNoGrad | kRandom,
      .samples = "T(5, lo=0.1, hi=1), 3; T(2,5, lo=0.1, hi=1), 2; T(2,3, lo=0.1, hi=1), 7, replacement=True",
      .notes = "random");

}  // namespace
}  // namespace tg
