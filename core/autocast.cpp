// Mixed precision: casts the operands of an op as its class in the table says. Casts are ops, so gradients come back in
// the type of what was cast.
#include <unordered_map>

#include "core/op.h"

namespace tg {
namespace {

// The cast of a weight, good as long as the weight has the same memory at the same version.
struct CastWeight {
  Tensor weight, low;
  Ref<Storage> storage;
  uint32_t version = 0;
  bool recorded = false;  // low knows where it came from
};
using CastCache = std::unordered_map<const TensorImpl*, CastWeight>;
CastCache& cast_cache() {
  thread_local CastCache cache;
  return cache;
}

Tensor cast_to(const Tensor& t, DType dtype) {
  static const OpDef& op = find_op("cast");
  const Value args[] = {Value(t), Value(dtype)};
  Outputs out;
  call(op, {args, 2}, out);
  return std::move(out[0]);
}

Tensor cast_weight(const Tensor& t, DType dtype) {
  CastWeight& e = cast_cache()[t.impl()];
  bool same = e.low.defined() && e.storage.get() == t.impl()->storage.get() && e.version == t.version() &&
              e.low.dtype() == dtype && (e.recorded || !modes().grad);
  if (!same) e = {t, cast_to(t, dtype), t.impl()->storage, t.version(), modes().grad};
  return e.low;
}

// Tensors whose type autocast decides: floating point, but not float64, on a type of device it is on for.
bool takes_part(const Tensor& t) {
  return t.defined() && is_float(t.dtype()) && t.dtype() != DType::F64 &&
         (modes().autocast.on >> int(t.device().type) & 1);
}

template <class F>
void each_tensor(Args args, F&& f) {
  for (const Value& v : args) {
    if (v.is_tensor()) f(v.tensor());
    if (v.kind() == Value::Kind::Tensors)
      for (const Tensor& t : v.tensors()) f(t);
  }
}

bool names_a_dtype(Args args) {
  for (const Value& v : args)
    if (v.kind() == Value::Kind::DType) return true;
  return false;
}

// The type the op computes in on this type of device; false if its operands stay as they are.
bool wanted_type(const OpDef& op, Args args, DType& wanted) {
  const AutocastState& state = modes().autocast;
  switch (op.spec.autocast) {
    case Autocast::Low:
      each_tensor(args, [&](const Tensor& t) {
        if (takes_part(t)) wanted = state.dtype[int(t.device().type)];
      });
      return true;
    case Autocast::Float32:
      wanted = DType::F32;
      return !names_a_dtype(args);
    case Autocast::Widest: {
      bool any = false;
      each_tensor(args, [&](const Tensor& t) {
        if (takes_part(t)) wanted = std::exchange(any, true) ? promote(wanted, t.dtype()) : t.dtype();
      });
      return any && op.opcode < 0;
    }
    default:
      return false;
  }
}

}  // namespace

bool call_autocast(const OpDef& op, Args args, Outputs& out) {
  const bool decided = op.inplace_of || op.spec.autocast != Autocast::Keep;
  if (!decided && !op.spec.primitive) return false;
  DType wanted = DType::F32;
  SmallVec<Value, 8> values;
  SmallVec<Tensor, 8> cast;  // what the values point to
  if (!op.inplace_of && wanted_type(op, args, wanted)) {
    const bool cache = modes().autocast.cache && op.spec.autocast == Autocast::Low;
    int count = 0;
    bool any = false;
    each_tensor(args, [&](const Tensor& t) { ++count, any |= takes_part(t) && t.dtype() != wanted; });
    auto fitting = [&](const Tensor& t) {
      if (!takes_part(t) || t.dtype() == wanted) return t;
      AutocastOff plain;
      bool weight = cache && t.dtype() == DType::F32 && t.requires_grad() && !t.is_view() && t.is_leaf();
      return weight ? cast_weight(t, wanted) : cast_to(t, wanted);
    };
    if (any) cast.reserve(count);
    for (int i = 0; any && i < args.n; ++i) {
      const int first = cast.size();
      if (args[i].is_tensor()) {
        cast.push_back(fitting(args[i].tensor()));
        values.push_back(Value(cast[first]));
      } else if (args[i].kind() == Value::Kind::Tensors) {
        for (const Tensor& t : args[i].tensors()) cast.push_back(fitting(t));
        values.push_back(Value(TensorList(cast.data() + first, cast.size() - first)));
      } else {
        values.push_back(args[i]);
      }
    }
  }
  AutocastOff plain;
  call(op, values.empty() ? args : Args{values.data(), values.size()}, out);
  return true;
}

AutocastMode::AutocastMode(DeviceType device, DType dtype, bool enabled, bool cache) : old_(modes().autocast) {
  TG_CHECK(!enabled || is_half(dtype), DTypeError, "autocast: the dtype must be float16 or bfloat16, got ", dtype);
  AutocastState& s = modes().autocast;
  const uint8_t bit = uint8_t(1u << int(device));
  s.on = uint8_t(enabled ? s.on | bit : s.on & ~bit);
  s.dtype[int(device)] = dtype;
  s.cache = cache;
  ++s.depth;
}

AutocastMode::~AutocastMode() {
  modes().autocast = old_;
  if (old_.depth == 0) clear_autocast_cache();
}

void clear_autocast_cache() { cast_cache().clear(); }

}  // namespace tg
