// Connectionist temporal classification: the probability of a label sequence, summed over all its alignments to the
// time steps.
#include <limits>

#include "ops/copy_view.h"
#include "ops/create.h"
#include "ops/fast_path.h"
#include "ops/loss.h"

namespace tg {
namespace {

constexpr double kNoPath = std::numeric_limits<double>::infinity();

// The states of sample n are its labels with blanks around them: blank l1 blank l2 ... blank, 2 * length + 1 of them.
// One row per sample, (N, L) with L for the longest; penalties are 0 where allowed and -inf elsewhere.
struct Lattice {
  Tensor labels;      // class of each state
  Tensor start, end;  // penalty of beginning and of ending in a state
  Tensor skip;        // penalty of arriving from two states before: only between labels that differ
  Tensor emit;        // log-probability of each state at each step, (T, N, L)
  DType compute;
};

// 0 where `allowed`, -inf elsewhere.
Tensor penalty(const Tensor& allowed, DType t) { return where(allowed, 0.0, full({1}, -kNoPath, t, allowed.device())); }

Lattice make_lattice(const Tensor& log_probs, const Tensor& targets, IntList lengths, int64_t blank) {
  Lattice a;
  a.compute = compute_type(log_probs.dtype());
  Device d = log_probs.device();
  int64_t steps = log_probs.size(0), n = targets.size(0), s = targets.size(1);
  Tensor blanks = full({n, s, 1}, blank, DType::I64, d);
  Tensor pairs = reshape(cat({blanks, unsqueeze(targets, 2)}, 2), {n, 2 * s});
  a.labels = cat({pairs, full({n, 1}, blank, DType::I64, d)}, 1);
  Tensor at = arange(2 * s + 1, DType::I64, d);
  std::vector<int64_t> ends(lengths.begin(), lengths.end());
  Tensor last = int_tensor(ends, {n, 1}, d) * 2;
  a.start = penalty(le(at, 1), a.compute);
  a.end = penalty(logical_and(le(at, last), ge(at, last - 1)), a.compute);
  Tensor differs = ne(a.labels, roll(a.labels, {2}, {1}));
  a.skip = penalty(logical_and(differs, logical_and(eq(remainder(at, 2), 1), ge(at, 3))), a.compute);
  a.emit = gather(widen(log_probs), 2, expand(unsqueeze(a.labels, 0), {steps, n, 2 * s + 1}));
  return a;
}

View step_of(const Tensor& t, int64_t step, int64_t from, const Dims& shape) {
  View v = slice_view(slice_view(View(t), 0, step, 1), 2, from, shape[1]);
  v.shape.erase(0), v.stride.erase(0);
  return v;
}

// Sums over the ways to reach a state, with its own emission. Two states that do not exist stand before the first, so
// that the ways in are shifted views of the step before: (T, N, 2 + L).
Tensor ways_in(const Lattice& a) {
  Dims shape = a.labels.sizes();
  int64_t steps = a.emit.size(0);
  Tensor alpha = full({steps, shape[0], shape[1] + 2}, -kNoPath, a.compute, a.emit.device());
  Backend& b = backend(alpha.device());
  // stay, advance by one, advance by two, penalty of that, emission
  Program p = make_program(
      a.compute, 5, {}, {{Opc::add, {2, 3}}, {Opc::logaddexp, {0, 1}}, {Opc::logaddexp, {6, 5}}, {Opc::add, {7, 4}}});
  Program first = make_program(a.compute, 2, {}, {{Opc::add, {0, 1}}});
  for (int64_t t = 0; t < steps; ++t) {
    Views ins, outs;
    outs.push_back(step_of(alpha, t, 2, shape));
    if (t == 0) {
      ins.push_back(broadcast_to_view(a.start, shape));
    } else {
      for (int64_t back : {2, 1, 0}) ins.push_back(step_of(alpha, t - 1, back, shape));
      ins.push_back(broadcast_to_view(a.skip, shape));
    }
    ins.push_back(step_of(a.emit, t, 0, shape));
    b.map(t == 0 ? first : p, ins, outs);
  }
  return narrow(alpha, 2, 2, shape[1]);
}

// Sums over the ways to go on from a state to the end, with its own emission; sample n ends at step lengths[n] - 1.
// Two states that do not exist stand behind the last.
Tensor ways_out(const Lattice& a, IntList lengths) {
  Dims shape = a.labels.sizes();
  int64_t steps = a.emit.size(0), n = shape[0];
  Device d = a.emit.device();
  Tensor beta = full({steps + 1, n, shape[1] + 2}, -kNoPath, a.compute, d);
  std::vector<int64_t> ends(lengths.begin(), lengths.end());
  Tensor final_step = penalty(
      eq(reshape(arange(1, steps + 1, 1, DType::I64, d), {-1, 1, 1}), int_tensor(ends, {1, n, 1}, d)), a.compute);
  Tensor leave = pad(narrow(a.skip, 1, std::min<int64_t>(2, shape[1]), std::max<int64_t>(shape[1] - 2, 0)),
                     {0, std::min<int64_t>(2, shape[1])}, "constant", -kNoPath);
  Backend& b = backend(d);
  // stay, one on, two on, penalty of that, penalty of ending in this state, penalty of ending now, emission
  Program p = make_program(a.compute, 7, {},
                           {{Opc::add, {2, 3}},
                            {Opc::logaddexp, {0, 1}},
                            {Opc::logaddexp, {8, 7}},
                            {Opc::add, {4, 5}},
                            {Opc::logaddexp, {9, 10}},
                            {Opc::add, {11, 6}}});
  for (int64_t t = steps; t-- > 0;) {
    Views ins, outs;
    for (int64_t on : {0, 1, 2}) ins.push_back(step_of(beta, t + 1, on, shape));
    ins.push_back(broadcast_to_view(leave, shape));
    ins.push_back(broadcast_to_view(a.end, shape));
    ins.push_back(broadcast_to_view(select(final_step, 0, t), shape));
    ins.push_back(step_of(a.emit, t, 0, shape));
    outs.push_back(step_of(beta, t, 0, shape));
    b.map(p, ins, outs);
  }
  return narrow(narrow(beta, 0, 0, steps), 2, 0, shape[1]);
}

// -log of the probability of each sample, from the states it may end in at its last step.
Tensor nll_of(const Lattice& a, const Tensor& alpha, IntList input_lengths, IntList target_lengths) {
  int64_t n = a.labels.size(0);
  std::vector<int64_t> last;
  for (int64_t i = 0; i < n; ++i) last.push_back(std::max<int64_t>(input_lengths[i] - 1, 0));
  Tensor at = expand(int_tensor(last, {1, n, 1}, alpha.device()), {1, n, alpha.size(2)});
  Tensor nll = -logsumexp(squeeze(gather(alpha, 0, at), 0) + a.end, 1);
  for (int64_t i = 0; i < n; ++i)  // no steps at all: only the empty sequence is possible
    if (input_lengths[i] == 0) fill_(narrow(nll, 0, i, 1), target_lengths[i] == 0 ? 0.0 : kNoPath);
  return nll;
}

Tensor ctc_nll_primitive(const Tensor& log_probs, const Tensor& targets, IntList input_lengths, IntList target_lengths,
                         int64_t blank) {
  Lattice a = make_lattice(log_probs, targets, target_lengths, blank);
  return narrow_to(nll_of(a, ways_in(a), input_lengths, target_lengths), log_probs.dtype());
}

// d nll / d log_probs[t, n, c] = -P(state at t carries c | labels): the product of the ways in and out over their sum.
Tensor ctc_nll_grad(GradCtx& c) {
  TG_CHECK(!modes().grad, NotImplementedError, "ctc_loss: second derivatives are not implemented");
  IntList input_lengths = c.arg<IntList>(2);
  Tensor log_probs = c.x(0), g = reshape(c.g(), {1, -1, 1});
  Lattice a = make_lattice(log_probs, c.x(1), c.arg<IntList>(3), c.arg<int64_t>(4));
  Tensor alpha = ways_in(a), paths = alpha + ways_out(a, input_lengths);
  Tensor nll = reshape(nll_of(a, alpha, input_lengths, c.arg<IntList>(3)), {1, -1, 1});
  Tensor share = where(eq(paths, -kNoPath), 0.0, exp(paths - a.emit + nll));
  Tensor sums = zeros(log_probs.sizes(), a.compute, log_probs.device());
  sums = scatter_add(sums, 2, expand(unsqueeze(a.labels, 0), share.sizes()), share);
  // an impossible sequence has no gradient, unless nothing depends on it
  return where(eq(g, 0.0), 0.0, -sums * (g + (nll - nll)));
}

// ---- the public face: checks, padding of concatenated targets, reduction

void check_lengths(const char* what, IntList lengths, int64_t n, int64_t limit, const Tensor& t, const char* name) {
  TG_CHECK(lengths.size() == n, ShapeError, "ctc_loss: ", what, " must have ", n, " elements, one per sample, got ",
           lengths.size(), "; ", name, "=", describe(t));
  for (int64_t v : lengths)
    TG_CHECK(v >= 0 && v <= limit, ValueError, "ctc_loss: ", what, " must lie in [0, ", limit, "], got ", v, "; ", name,
             "=", describe(t));
}

// Targets as (N, longest) int64, blanks behind the end of each.
Tensor padded_targets(const Tensor& targets, int64_t n, IntList lengths, int64_t blank, int64_t classes) {
  TG_CHECK(is_int(targets.dtype()), DTypeError, "ctc_loss: targets must be integers; targets=", describe(targets));
  TG_CHECK(targets.ndim() == 1 || targets.ndim() == 2, ShapeError,
           "ctc_loss: targets must have 1 or 2 dimensions; targets=", describe(targets));
  check_lengths("target_lengths", lengths, n, targets.ndim() == 2 ? targets.size(1) : targets.numel(), targets,
                "targets");
  TG_CHECK(targets.ndim() == 1 || targets.size(0) == n, ShapeError, "ctc_loss: targets must have ", n,
           " rows, one per sample; targets=", describe(targets));
  int64_t longest = 0, total = 0;
  for (int64_t v : lengths) longest = std::max(longest, v), total += v;
  TG_CHECK(targets.ndim() == 2 || total <= targets.numel(), ShapeError, "ctc_loss: target_lengths sum up to ", total,
           " but targets has ", targets.numel(), " elements; targets=", describe(targets));
  check_room("ctc_loss", numel_of({n, longest}, "ctc_loss"), targets.device());
  std::vector<int64_t> from, used;
  int64_t begin = 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t s = 0; s < longest; ++s) {
      used.push_back(s < lengths[i]);
      from.push_back(s < lengths[i] ? begin + s : 0);
    }
    begin += targets.ndim() == 2 ? targets.size(1) : lengths[i];
  }
  if (longest == 0) return full({n, 0}, blank, DType::I64, targets.device());
  Tensor flat = reshape(narrow_to(targets, DType::I64), {-1});
  Tensor picked = reshape(index_select(flat, 0, int_tensor(from, {n * longest}, targets.device())), {n, longest});
  Tensor padded = where(gt(int_tensor(used, {n, longest}, targets.device()), 0), picked, blank);
  auto [lo, hi] = backend(padded.device()).int_range(View(padded));
  TG_CHECK(lo >= 0 && hi < classes, IndexError, "ctc_loss: targets must lie in [0, ", classes, "), got ",
           lo < 0 ? lo : hi, "; targets=", describe(targets));
  return padded;
}

Tensor ctc_loss_ints(const Tensor& log_probs, const Tensor& targets, IntList input_lengths, IntList target_lengths,
                     int64_t blank, std::string_view reduction, bool zero_infinity) {
  check_reduction("ctc_loss", reduction);
  TG_CHECK(log_probs.ndim() == 2 || log_probs.ndim() == 3, ShapeError,
           "ctc_loss: log_probs must have 2 or 3 dimensions (time, batch, classes); log_probs=", describe(log_probs));
  TG_CHECK(is_float(log_probs.dtype()), DTypeError,
           "ctc_loss: expected a floating-point tensor, log_probs=", describe(log_probs));
  bool batched = log_probs.ndim() == 3;
  Tensor x = batched ? log_probs : unsqueeze(log_probs, 1);
  int64_t steps = x.size(0), n = x.size(1), classes = x.size(2);
  TG_CHECK(steps > 0, ShapeError, "ctc_loss: expected at least one time step; log_probs=", describe(log_probs));
  TG_CHECK(blank >= 0 && blank < classes, IndexError, "ctc_loss: blank must lie in [0, ", classes, "), got ", blank,
           "; log_probs=", describe(log_probs));
  check_lengths("input_lengths", input_lengths, n, steps, log_probs, "log_probs");
  Tensor padded;
  {
    NoGrad guard;
    padded = padded_targets(to(targets, log_probs.device()), n, target_lengths, blank, classes);
  }
  Tensor loss = ctc_nll(x, padded, input_lengths, target_lengths, blank);
  if (zero_infinity) loss = where(eq(loss, kNoPath), 0.0, loss);
  if (reduction == "mean") {
    std::vector<int64_t> by;
    for (int64_t v : target_lengths) by.push_back(std::max<int64_t>(v, 1));
    loss = loss / narrow_to(int_tensor(by, {n}, x.device()), loss.dtype());
  }
  return reduce_loss("ctc_loss", batched ? loss : squeeze(loss, 0), reduction);
}

std::vector<int64_t> host_ints(const Tensor& t, const char* name) {
  TG_CHECK(is_int(t.dtype()) && t.ndim() <= 1, DTypeError, "ctc_loss: ", name,
           " must be integers in at most 1 dimension; ", name, "=", describe(t));
  NoGrad guard;
  Tensor here = contiguous(to(narrow_to(t, DType::I64), Device()));
  return {here.data<int64_t>(), here.data<int64_t>() + here.numel()};
}

Tensor ctc_loss_body(const Tensor& log_probs, const Tensor& targets, const Tensor& input_lengths,
                     const Tensor& target_lengths, int64_t blank, std::string_view reduction, bool zero_infinity) {
  return ctc_loss_ints(log_probs, targets, host_ints(input_lengths, "input_lengths"),
                       host_ints(target_lengths, "target_lengths"), blank, reduction, zero_infinity);
}

TG_OP(
    "ctc_nll(Tensor log_probs, Tensor targets, int[] input_lengths, int[] target_lengths, int blank) -> Tensor",
    .doc =
        "-log of the probability of each label sequence (N, S) under log_probs (T, N, C), summed over its alignments.",
    .primitive = box<ctc_nll_primitive>, .grads = {{in(0) | in(1), ctc_nll_grad}, {}}, .flags = kHidden | kOnHost,
    .autocast = Autocast::Float32, .torch = "none",
    .samples =
        "T(5,2,4), I(2,2, lo=1, hi=4), [5,4], [2,1], 0; T(4,1,3), I(1,1, hi=2), [3], [1], 2; "
        "T(3,2,3), I(2,0), [3,1], [0,0], 0",
    .notes = "nograd2");
TG_OP(
    "ctc_loss(Tensor log_probs, Tensor targets, Tensor input_lengths, Tensor target_lengths, int blank=0, "
    "str reduction='mean', bool zero_infinity=False) -> Tensor",
    .doc =
        "-log of the probability that log_probs (T, N, C) spell targets, (N, S) or concatenated, with blanks and "
        "repeats removed. 'mean' divides each loss by its target's length first. The gradient is the exact one with "
        "respect to log_probs. targets and lengths may lie on another device than log_probs.",
    .composite = box<ctc_loss_body>, .flags = kNN | kAnyDevices, .torch = "none",
    .samples =
        "T(6,2,4), I(2,2, lo=1, hi=4), I(2, lo=5, hi=7), I(2, lo=1, hi=3); "
        "T(6,4), I(2, lo=1, hi=4), I(lo=5, hi=7), I(lo=1, hi=3), reduction='none'",
    .notes = "nograd2");
TG_OP(
    "ctc_loss.ints(Tensor log_probs, Tensor targets, int[] input_lengths, int[] target_lengths, int blank=0, "
    "str reduction='mean', bool zero_infinity=False) -> Tensor",
    .doc = "Like ctc_loss, with the lengths as numbers.", .composite = box<ctc_loss_ints>, .flags = kNN | kAnyDevices,
    .torch = "none",
    .samples =
        "T(6,2,4), I(2,2, lo=1, hi=4), [6,5], [2,1]; T(6,2,4), I(3, hi=3), [6,4], [2,1], 3, 'sum'; "
        "T(2,2,4), I(2,3, lo=1, hi=4), [2,2], [3,1], reduction='none', zero_infinity=True; "
        "T(2,2,4), I(2,3, lo=1, hi=4), [2,2], [1,0], reduction='none'",
    .notes = "nograd2");

}  // namespace
}  // namespace tg
