// Text form of tensors, laid out as PyTorch does.
#include <cinttypes>
#include <cstdio>

#include "core/tensor.h"

namespace tg {

PrintOptions& print_options() {
  static PrintOptions o;
  return o;
}

namespace {

double value_at(const Tensor& t, int64_t offset) {
  return visit(t.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    return convert<double>(static_cast<const T*>(t.data())[offset]);
  });
}

int64_t int_at(const Tensor& t, int64_t offset) {
  return visit(t.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    return convert<int64_t>(static_cast<const T*>(t.data())[offset]);
  });
}

// Indices shown along one axis: all, or the edges with a gap (-1) between.
std::vector<int64_t> shown(int64_t n, bool summarise) {
  int64_t e = print_options().edgeitems;
  std::vector<int64_t> out;
  for (int64_t i = 0; i < n; ++i) {
    if (summarise && n > 2 * e && i == e) {
      out.push_back(-1);
      i = n - e;
    }
    out.push_back(i);
  }
  return out;
}

// Chooses integer, fixed or scientific notation and the common width for all shown values.
class Format {
 public:
  Format(const Tensor& t, bool summarise) : t_(t), summarise_(summarise) {
    collect(0, 0);
    if (is_float(t.dtype())) choose_float();
    for (int64_t o : offsets_)  // nan and inf do not widen the columns
      if (!is_float(t.dtype()) || std::isfinite(value_at(t, o))) width_ = std::max(width_, int(text(o).size()));
  }
  std::string padded(int64_t offset) const {
    std::string s = text(offset);
    return std::string(size_t(std::max(0, width_ - int(s.size()))), ' ') + s;
  }
  int width() const { return width_; }

 private:
  void collect(int axis, int64_t offset) {
    if (axis == t_.ndim()) {
      offsets_.push_back(offset);
      return;
    }
    for (int64_t i : shown(t_.sizes()[axis], summarise_))
      if (i >= 0) collect(axis + 1, offset + i * t_.strides()[axis]);
  }
  void choose_float() {
    double lo = 0, hi = 0;
    bool any = false;
    for (int64_t o : offsets_) {
      double v = std::fabs(value_at(t_, o));
      if (!std::isfinite(v) || v == 0) continue;
      if (v != std::ceil(v)) integral_ = false;
      lo = any ? std::min(lo, v) : v;
      hi = any ? std::max(hi, v) : v;
      any = true;
    }
    if (any) sci_ = hi / lo > 1000 || hi > 1e8 || (!integral_ && lo < 1e-4);
    if (print_options().sci_mode >= 0) sci_ = print_options().sci_mode == 1;
  }
  std::string text(int64_t offset) const {
    if (t_.dtype() == DType::Bool) return int_at(t_, offset) ? "True" : "False";
    if (!is_float(t_.dtype())) return std::to_string(int_at(t_, offset));
    double v = value_at(t_, offset);
    if (std::isnan(v)) return "nan";
    if (std::isinf(v)) return v > 0 ? "inf" : "-inf";
    char buf[400];
    int p = print_options().precision;
    if (sci_)
      std::snprintf(buf, sizeof buf, "%.*e", p, v);
    else if (integral_)
      std::snprintf(buf, sizeof buf, "%.0f.", v);
    else
      std::snprintf(buf, sizeof buf, "%.*f", p, v);
    return buf;
  }

  const Tensor& t_;
  bool summarise_, integral_ = true, sci_ = false;
  std::vector<int64_t> offsets_;
  int width_ = 0;
};

void print_axis(std::string& s, const Tensor& t, const Format& f, bool summarise, int axis, int64_t offset,
                int indent) {
  if (t.ndim() == 0) {
    s += f.padded(offset);
    return;
  }
  s += "[";
  bool last = axis == t.ndim() - 1, first = true;
  int per_line = std::max(1, (print_options().linewidth - indent) / (f.width() + 2)), col = 0;
  for (int64_t i : shown(t.sizes()[axis], summarise)) {
    if (!first) {
      if (last && col % per_line)
        s += ", ";
      else
        s += "," + std::string(last ? 1 : size_t(t.ndim() - 1 - axis), '\n') + std::string(size_t(indent + 1), ' ');
    }
    first = false;
    ++col;
    if (i < 0)
      s += last ? " ..." : "...";
    else if (last)
      s += f.padded(offset + i * t.strides()[axis]);
    else
      print_axis(s, t, f, summarise, axis + 1, offset + i * t.strides()[axis], indent + 1);
  }
  s += "]";
}

}  // namespace

std::string (*grad_fn_name)(const Tensor&) = nullptr;

std::string to_string(const Tensor& t) {
  if (!t.defined()) return "tensor(undefined)";
  std::string s = t.impl()->is_parameter ? "Parameter containing:\ntensor(" : "tensor(";
  bool summarise = t.numel() > print_options().threshold;
  if (t.numel() == 0) {
    s += "[]";
    if (t.ndim() != 1) s += ", size=(" + to_string(t.sizes()).substr(1);
    if (t.ndim() != 1) s.back() = ')';
  } else {
    Tensor values = host_mirror(t);
    Format f(values, summarise);
    print_axis(s, values, f, summarise, 0, 0, 7);
  }
  bool default_type =
      t.dtype() == default_dtype() || (t.numel() > 0 && (t.dtype() == DType::Bool || t.dtype() == DType::I64));
  if (!t.device().is_cpu())
    s += ", device='" + to_string(t.device()) + "'" + (device_note ? device_note(t.device()) : "");
  if (!default_type) s += std::string(", dtype=tinygrad_cpp.") + name(t.dtype());
  if (!t.is_leaf() && grad_fn_name)
    s += ", grad_fn=" + grad_fn_name(t);
  else if (t.requires_grad())
    s += ", requires_grad=True";
  return s + ")";
}

}  // namespace tg
