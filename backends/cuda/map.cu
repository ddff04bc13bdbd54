// Which kernel a program gets, and the interpreter for those without one of their own.
#include "backends/cuda/map.cuh"

#include "backends/cuda/compiled_map.h"
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/program.cuh"

namespace tg::cuda {
namespace {

// R registers live in local memory; a smaller count leaves room for more threads.
template <class T, int R>
__global__ void __launch_bounds__(128)
    interpret_kernel(DeviceProgram p, AnyViews v, Walk<plan::kMaxViews> w, int64_t first) {
  uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= w.n) return;
  int64_t off[plan::kMaxViews] = {};
  w.offsets(i, off);
  T regs[R];
  for (int k = 0; k < p.n_inputs; ++k) regs[k] = load_any<T>(v.data[k], v.dtype[k], off[k]);
  run_program<T>(p, regs, first + off[p.n_inputs + p.n_outs]);
  for (int k = 0; k < p.n_outs; ++k) {
    int at = p.n_inputs + k;
    store_any<T>(v.data[at], v.dtype[at], off[at], regs[p.outs[k]]);
  }
}

// Programs that count elements must walk them in row-major order.
bool counts_elements(const Program& p) {
  for (const Instr& in : p.code)
    if (in.op >= Opc::Index && in.op < Opc::Count) return true;
  return false;
}

bool (*const kRowLaunchers[kNumDTypes])(const RowLaunch&) = {
    nullptr,        nullptr,        nullptr,         nullptr,        nullptr,
    launch_row_i64, launch_row_f16, launch_row_bf16, launch_row_f32, launch_row_f64};

sm::Rule row_rule(Opc op) {
  static constexpr sm::Rule all[] = {
#define TG_P1(name, rule, ...) sm::Rule::rule,
#define TG_P2(name, params, rule, ...) sm::Rule::rule,
#define TG_P3(name, params, rule, ...) sm::Rule::rule,
#include "core/pointwise.def"
#undef TG_P1
#undef TG_P2
#undef TG_P3
      sm::Rule::Same};
  return all[int(op)];
}

// A program that is one row over operands of one storage type.
bool single_row(const Program& p, const Views& ins, const Views& outs, RowLaunch& l) {
  if (p.code.size() != 1 || outs.size() != 1 || p.outs[0] != p.code_reg(0) || ins.size() > 3) return false;
  l.op = p.code[0].op;
  if (l.op > Opc::Identity) return false;
  static constexpr int arities[] = {
#define TG_P1(...) 1,
#define TG_P2(...) 2,
#define TG_P3(...) 3,
#include "core/pointwise.def"
#undef TG_P1
#undef TG_P2
#undef TG_P3
      1};
  const sm::Rule rule = row_rule(l.op);
  const int arity = arities[int(l.op)];
  bool have_storage = rule != sm::Rule::Compare;
  if (have_storage) l.storage = outs[0].dtype;
  Views four;
  for (int k = 0; k < 3; ++k) {
    View v;
    v.shape = outs[0].shape;
    v.stride = Dims::filled(v.shape.size(), 0);
    if (k < arity) {
      int r = p.code[0].src[k];
      if (r < p.n_inputs) {
        v = ins[r];
        l.operands.in[k] = v.data;
        if (rule == sm::Rule::Where && k == 0) {
          if (v.dtype != DType::Bool) return false;
        } else if (!have_storage) {
          have_storage = true;
          l.storage = v.dtype;
        } else if (v.dtype != l.storage) {
          return false;
        }
      } else {
        const Scalar& s = p.consts[r - p.n_inputs];
        l.operands.number[k] = s.d();
        l.operands.integer[k] = s.i();
      }
    }
    four.push_back(v);
  }
  if (!have_storage || compute_type(l.storage) != p.compute) return false;
  if (rule == sm::Rule::Compare && outs[0].dtype != DType::Bool) return false;
  l.operands.out = outs[0].data;
  l.nest = plan::collapse(four, outs, 3);
  return true;
}

}  // namespace

void check_rows(const Program& p) {
  for (const Instr& in : p.code) {
    if (in.op >= Opc::Identity) continue;
    const sm::Rule rule = row_rule(in.op);
    TG_CHECK(p.compute == DType::I64 ? sm::rule_has_int(rule) : sm::rule_has_float(rule), DTypeError,
             "program: instruction ", int(in.op), " is not defined for ", p.compute);
  }
}

void interpret(const Program& p, const Views& ins, const Views& outs) {
  check_rows(p);
  const DeviceProgram d(p);
  const bool ordered = counts_elements(p);
  plan::Nest nest;
  if (ordered) {
    nest = plan::nest_of(ins, outs);
    plan::merge_axes(nest);
  } else {
    nest = plan::collapse(ins, outs, ins.size());
  }
  const Dims order = contiguous_strides(nest.shape);
  plan::Nest counted = nest;  // one more view: the logical index
  TG_CHECK(nest.n_views < plan::kMaxViews, ValueError, "cuda: too many operands in one program");
  counted.stride[counted.n_views++] = order;
  for_pieces(counted, [&](const plan::Nest& piece, const int64_t* start) {
    AnyViews v{};
    for (int k = 0; k < nest.n_views; ++k) {
      const View& x = k < ins.size() ? ins[k] : outs[k - ins.size()];
      v.data[k] = static_cast<char*>(x.data) + start[k] * itemsize(x.dtype);
      v.dtype[k] = x.dtype;
    }
    const int64_t first = start[nest.n_views];
    Walk<plan::kMaxViews> w(piece);
    visit_compute(p.compute, [&](auto tag) {
      using T = typename decltype(tag)::type;
      unsigned grid = blocks_for(w.n, 128);
      if (d.registers() + 3 <= 16)
        TG_LAUNCH((interpret_kernel<T, 16>), grid, 128, 0, stream(), d, v, w, first);
      else
        TG_LAUNCH((interpret_kernel<T, 256>), grid, 128, 0, stream(), d, v, w, first);
    });
  });
}

void convert_copy(const View& in, const View& out) {
  Program p;
  p.compute = compute_type(in.dtype);
  p.n_inputs = 1;
  p.code.push_back({Opc::Identity, {0, 0, 0}});
  p.outs.push_back(p.code_reg(0));
  Views ins, outs;
  ins.push_back(in);
  outs.push_back(out);
  RowLaunch l;
  if (single_row(p, ins, outs, l) && kRowLaunchers[int(l.storage)] && kRowLaunchers[int(l.storage)](l)) return;
  interpret(p, ins, outs);
}

static __global__ void set_origin_kernel(uint64_t* origin, uint64_t seed, uint64_t offset) {
  origin[0] = seed;
  origin[1] = offset;
}
void set_origin(uint64_t* origin, uint64_t seed, uint64_t offset, cudaStream_t s) {
  TG_LAUNCH((set_origin_kernel), 1, 1, 0, s, origin, seed, offset);
}

void CudaBackend::map(const Program& p, const Views& ins, const Views& outs) {
  if (outs.empty() || outs[0].numel() == 0) return;
  DeviceGuard guard(device_);
  RowLaunch l;
  if (single_row(p, ins, outs, l) && kRowLaunchers[int(l.storage)] && kRowLaunchers[int(l.storage)](l)) return;
  if (p.origin || p.first || !compiled_map(device_, p, ins, outs)) interpret(p, ins, outs);
}

}  // namespace tg::cuda
