// Reductions: which kernel, arrays of any type, and programs before and after.
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/map.cuh"
#include "backends/cuda/program.cuh"
#include "backends/cuda/reduce_ops.cuh"

namespace tg::cuda {
namespace {

// Elements that a program makes; R registers.
template <class T, int R>
struct ProgramLoader {
  using Element = T;
  static constexpr int width = 1;
  DeviceProgram program;
  AnyViews views;
  Walk<plan::kMaxViews> kept, reduced;
  int64_t first;  // logical index where the piece starts
  int64_t row[plan::kMaxViews];

  __device__ void start(uint32_t result) {
    for (auto& r : row) r = 0;
    kept.offsets(result, row);
  }
  __device__ T load(uint32_t i) const {
    int64_t off[plan::kMaxViews];
    for (int k = 0; k < plan::kMaxViews; ++k) off[k] = row[k];
    reduced.offsets(i, off);
    T regs[R];
    for (int k = 0; k < program.n_inputs; ++k) regs[k] = load_any<T>(views.data[k], views.dtype[k], off[k]);
    run_program<T>(program, regs, first + off[program.n_inputs]);
    return regs[program.outs[0]];
  }
};

// `op` over the whole of x by one row: x op number, if that is all the program does.
bool simple_before(const Program& p, Before& b) {
  if (p.n_inputs != 1 || p.code.size() != 1 || p.outs[0] != p.code_reg(0)) return false;
  if (p.code[0].op == Opc::square)
    b = Before::Square;
  else if (p.code[0].op == Opc::abs)
    b = Before::Abs;
  else if (p.code[0].op != Opc::Identity)
    return false;
  return true;
}
bool simple_after(const Program& p, After& a) {
  if (p.compute == DType::I64 || p.n_inputs != 1 || p.code.size() != 1 || p.consts.size() != 1) return false;
  const Instr& in = p.code[0];
  if (p.outs[0] != p.code_reg(0) || in.src[0] != 0 || in.src[1] != p.const_reg(0)) return false;
  if (in.op != Opc::mul && in.op != Opc::div) return false;
  a.kind = in.op == Opc::mul ? After::Multiply : After::Divide;
  a.number = p.consts[0].d();
  return true;
}

int64_t smallest_stride(const plan::Nest& n, int view) {
  int64_t s = INT64_MAX;
  for (int d = 0; d < n.ndim(); ++d)
    if (n.stride[view][d] != 0) s = std::min(s, std::abs(n.stride[view][d]));
  return s;
}

DType wide_type(ReduceOp op, DType compute) {
  bool sums = op == ReduceOp::Sum || op == ReduceOp::Prod;
  return sums && compute == DType::F32 ? DType::F64 : compute;
}

void dispatch(const ReduceCall& c, const Program* before, const Views& ins) {
  if (before) return reduce_program(c, *before, ins);
  if (!reduce_typed(c, ins[0])) reduce_any(c, ins[0]);
}

}  // namespace

void reduce_any(const ReduceCall& c, const View& in) {
  visit_compute(c.compute, [&](auto compute) {
    using T = typename decltype(compute)::type;
    run_reducer<AnyReducer<T>>(c, 1, [&](const Piece& kept, const Piece& reduced) {
      AnyLoader<T> l;
      l.data = static_cast<const char*>(in.data) + (kept.start[0] + reduced.start[0]) * itemsize(in.dtype);
      l.dtype = in.dtype;
      l.kept = Walk<1>(only_view(kept.nest, 0));
      l.reduced = Walk<1>(only_view(reduced.nest, 0));
      l.before = c.before;
      return l;
    });
  });
}

void reduce_program(const ReduceCall& c, const Program& before, const Views& ins) {
  check_rows(before);
  const DeviceProgram program(before);
  auto run = [&](auto compute, auto registers) {
    using T = typename decltype(compute)::type;
    run_reducer<AnyReducer<T>>(c, 1, [&](const Piece& kept, const Piece& reduced) {
      ProgramLoader<T, decltype(registers)::value> l;
      l.program = program;
      for (int k = 0; k < ins.size(); ++k) {
        l.views.data[k] = static_cast<char*>(ins[k].data) + (kept.start[k] + reduced.start[k]) * itemsize(ins[k].dtype);
        l.views.dtype[k] = ins[k].dtype;
      }
      l.kept = Walk<plan::kMaxViews>(kept.nest);
      l.reduced = Walk<plan::kMaxViews>(reduced.nest);
      l.first = kept.start[ins.size()] + reduced.start[ins.size()];
      return l;
    });
  };
  visit_compute(c.compute, [&](auto compute) {
    if (program.registers() + 3 <= 16)
      run(compute, std::integral_constant<int, 16>());
    else
      run(compute, std::integral_constant<int, 256>());
  });
}

void CudaBackend::reduce(ReduceOp op, DType compute, const Program* pre, const Views& ins, const Program* post,
                         const View& out) {
  DeviceGuard guard(device_);
  ReduceCall c{op, compute, {}, false, Before::Nothing, {}, {}};
  const Program* before = pre && simple_before(*pre, c.before) ? nullptr : pre;
  const bool inside = !post || (wide_type(op, compute) == DType::F64 && simple_after(*post, c.after));
  // The logical index is one more view, after the inputs.
  View index = ins.empty() ? out : ins[0];
  index.data = nullptr;
  index.stride = contiguous_strides(index.shape);
  Views all = ins;
  all.push_back(index);
  c.split = plan::split_reduction(all, out);
  if (c.split.kept.numel() == 0) return;
  plan::sort_axes(c.split.kept, 0);
  plan::sort_axes(c.split.reduced, 0);
  plan::merge_axes(c.split.kept);
  plan::merge_axes(c.split.reduced);
  c.columns = c.split.kept.ndim() > 0 && smallest_stride(c.split.kept, 0) < smallest_stride(c.split.reduced, 0);
  c.out.data = out.data;
  c.out.dtype = out.dtype;
  if (inside) return dispatch(c, before, ins);
  // Results in the accumulator's type first, then the program over them.
  const plan::Nest kept = c.split.kept;
  View wide, last;
  wide.dtype = wide_type(op, compute);
  wide.shape = kept.shape;
  wide.stride = contiguous_strides(kept.shape);
  Scratch results(size_t(kept.numel() * itemsize(wide.dtype)));
  wide.data = results.as<void>();
  last = out;
  last.shape = kept.shape;
  last.stride = kept.stride[kept.n_views - 1];
  c.split.kept.stride[kept.n_views - 1] = wide.stride;
  c.out.data = wide.data;
  c.out.dtype = wide.dtype;
  dispatch(c, before, ins);
  Views from, to;
  from.push_back(wide);
  to.push_back(last);
  map(*post, from, to);
}

}  // namespace tg::cuda
