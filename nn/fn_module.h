// Modules that are an op plus settings: activations, losses, pooling, padding, dropout, reshaping. Each is one row of
// fn_modules.def; the row says which settings the constructor takes and which op forward calls.
#pragma once
#include <variant>

#include "core/op.h"
#include "nn/module.h"

namespace tg::nn {

// A setting: what the constructor was given under a name.
using Attr =
    std::variant<std::monostate, bool, int64_t, double, std::string, std::vector<int64_t>, std::vector<double>>;

// Among the sizes of a setting: None, the size of the input in that dimension.
inline constexpr int64_t kInputSize = INT64_MIN;

// A constructor argument: a value, by position or by name (kw). Default-constructed: not given.
struct Arg {
  Attr value;
  Tensor tensor;
  std::string_view name;
  bool given = true;
  Arg() : given(false) {}
  Arg(bool v) : value(v) {}
  Arg(int v) : value(int64_t(v)) {}
  Arg(int64_t v) : value(v) {}
  Arg(double v) : value(v) {}
  Arg(const char* v) : value(std::string(v)) {}
  Arg(std::initializer_list<int64_t> v) : value(std::vector<int64_t>(v)) {}
  Arg(std::vector<int64_t> v) : value(std::move(v)) {}
  Arg(Attr v) : value(std::move(v)) {}
  Arg(Tensor v) : tensor(std::move(v)) {}
};
// nn::CrossEntropyLoss(nn::kw("label_smoothing", 0.1))
inline Arg kw(std::string_view name, Arg v) {
  v.name = name;
  return v;
}

// One row of fn_modules.def, read.
struct TG_API FnKind {
  struct Field {
    std::string name, type;  // type: bool int num str int[] int[n] num[] Tensor
    bool optional = false, has_default = false;
    Attr value;        // default
    std::string from;  // or: the earlier setting the default is copied from
  };
  struct Source {  // where a parameter of the op comes from
    enum Kind : uint8_t { Input, Setting, Buffer, Training, Literal, Default } kind = Default;
    int index = 0;
    Attr literal;
  };
  std::string name, file, op, signature, repr, doc;
  std::vector<Field> fields;
  int field(std::string_view n) const;
  // The op and its arguments, found when first used: ops register themselves in no particular order.
  struct Call {
    const OpDef* op = nullptr;
    std::vector<Source> sources;
    int inputs = 0;
  };
  const Call& call(bool with_indices) const;
  std::vector<std::pair<std::string, std::string>> overrides;  // "mode='reflect'", "pad=padding" of the row
};
TG_API const std::vector<const FnKind*>& fn_kinds();
// By name; NotImplementedError if there is none.
TG_API const FnKind& fn_kind(std::string_view name);

class TG_API FnModule : public Module {
 public:
  explicit FnModule(Blank) {}
  FnModule(std::string_view kind, const std::vector<Arg>& args);
  Tensor forward(const Tensor& x) override;
  void forward_list(TensorList xs, Outputs& out) override;
  // forward(input, target, ...)
  template <class... T>
    requires(sizeof...(T) > 0 && (std::convertible_to<T, const Tensor&> && ...))
  Tensor forward(const Tensor& x, const T&... more) {
    const Tensor xs[] = {x, more...};
    Outputs out;
    forward_list({xs, int64_t(1 + sizeof...(T))}, out);
    return std::move(out[0]);
  }
  std::string type_name() const override { return kind_ ? kind_->name : "FnModule"; }
  std::string extra_repr() const override;
  const FnKind* kind() const { return kind_; }
  // What the op calls the tensors that forward takes.
  std::vector<std::string> input_names() const;
  // Of a blank module: what it is, with default settings.
  void set_kind(const FnKind& k);
  // Settings by name; ValueError for an unknown name or a value of the wrong kind.
  const Attr& attr(std::string_view name) const;
  void set_attr(std::string_view name, Attr value);

 private:
  void set_field(size_t i, const Arg& a);
  const FnKind* kind_ = nullptr;
  const FnKind::Call* calls_[2] = {nullptr, nullptr};  // of the kind: plain, with indices
  std::vector<Attr> attrs_;                            // by field; tensors live in the slots
  bool flag(const char* name) const;
};

// nn::ReLU relu; nn::MaxPool2d pool(2); nn::MSELoss loss(nn::kw("reduction", "sum"));
struct FnHandle : Handle<FnModule> {
  using Handle<FnModule>::Handle;
  FnHandle(std::string_view kind, const std::vector<Arg>& args) : Handle(std::make_shared<FnModule>(kind, args)) {}
};
// The second constructor takes a braced list first: nn::AdaptiveAvgPool2d({1, 1}).
#define TG_FN(NAME, ...)                                                                         \
  struct NAME : FnHandle {                                                                       \
    NAME(Arg a = {}, Arg b = {}, Arg c = {}, Arg d = {}, Arg e = {}, Arg f = {})                 \
        : FnHandle(#NAME, {a, b, c, d, e, f}) {}                                                 \
    template <std::same_as<int> I>                                                               \
    NAME(std::initializer_list<I> a, Arg b = {}, Arg c = {}, Arg d = {}, Arg e = {}, Arg f = {}) \
        : FnHandle(#NAME, {Arg(std::vector<int64_t>(a.begin(), a.end())), b, c, d, e, f}) {}     \
  };
#include "nn/fn_modules.def"
#undef TG_FN

}  // namespace tg::nn
