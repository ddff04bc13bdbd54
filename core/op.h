// What an op is: one record with everything that is true of it. Bindings, stubs, docs, tests, recording and capture
// read this table; there is no other list of ops.
#pragma once
#include <string>
#include <vector>

#include "core/grad_ctx.h"
#include "core/modes.h"
#include "core/value.h"

namespace tg {

// Bits of Reads: inputs by position, outputs by position.
constexpr Reads in(int i) { return 1u << i; }
constexpr Reads out(int i) { return 1u << (16 + i); }

// The gradient of one input: a function of the context, and what it reads. `fn` null = not differentiable.
struct Grad {
  Reads reads = 0;
  Tensor (*fn)(GradCtx&) = nullptr;
};
// The gradients of all inputs at once, for ops whose gradients share work; calls ctx.set(i, g).
struct JointGrad {
  Reads reads = 0;
  void (*fn)(GradCtx&) = nullptr;
};

// Mixed-precision class (autocast): run in half, in float32, in the widest input type, or leave alone (then the parts
// of a composite decide). Ops over single elements (core/pointwise.def) promote by themselves, so there Widest is Keep.
enum class Autocast : uint8_t { Keep, Low, Float32, Widest };

enum OpFlags : uint32_t {
  kView = 1,           // the result shares the first input's memory
  kRandom = 2,         // draws from a generator
  kNoGrad = 4,         // not differentiable by nature (comparisons, argmax, integer results)
  kFunctionOnly = 8,   // no Tensor method
  kMethodOnly = 16,    // no module-level function
  kNN = 32,            // lives in nn.functional only
  kInplace = 64,       // writes its first input (name ends in _)
  kHidden = 128,       // not bound to Python
  kMakeInplace = 256,  // also has the in-place form `name_`, made automatically
  kAlsoNN = 512,       // also in nn.functional
  kOnHost = 1024,      // computed on the CPU wherever its operands are: they are copied there, the results back
  kAnyDevices = 2048,  // its tensors may lie on different devices: it copies between them, or looks at sizes alone
};

// The part an author writes. Exactly one of `composite` (a function of other ops, differentiated through them) and
// `primitive` (runs below the tape and needs `grads`/`joint` or kNoGrad) is usual; with both, `primitive` is a fast
// path and `composite` its fallback and oracle.
struct OpSpec {
  const char* doc = "";  // one or more sentences: what, shapes, errors
  Body composite = nullptr;
  Body primitive = nullptr;
  Body inplace = nullptr;        // writes args[0] directly; without it the in-place form computes and copies
  std::vector<Grad> grads = {};  // by position of the input
  JointGrad joint = {};
  uint32_t flags = 0;
  Autocast autocast = Autocast::Keep;
  const char* aliases = "";  // other public names, space separated
  const char* torch = "";    // the oracle's name when it is not torch.<name>; "none": checked elsewhere (says where)
  const char* samples = "";  // sample calls for the op matrix: "T(3,4), dim=1; T(5), dim=0"
  const char* notes = "";    // hints for the matrix: "nograd2" (no second order), "f64only" ...
};

struct Param {
  enum class Type : uint8_t {
    Tensor,
    Tensors,
    Operand,
    Int,
    Ints,
    Float,
    Floats,
    Bool,
    Scalar,
    Str,
    DType,
    Device,
    Generator,
    Index
  };
  std::string name;
  Type type;
  bool optional = false;  // "?": None allowed
  bool keyword_only = false;
  bool has_default = false;
  std::string default_text;  // as written
  Value default_value;       // borrows from the OpDef
  std::vector<int64_t> default_ints;
};

struct OpDef {
  std::string name;    // "sum.dim": public name and overload
  std::string base;    // "sum"
  std::string schema;  // "sum.dim(Tensor input, int[] dim, ...) -> Tensor"
  OpSpec spec;
  std::vector<Param> params;
  std::vector<std::string> returns;  // names of the results ("" when unnamed)
  std::string return_type;           // "Tensor", "Tensor[]", "bool", "int", "float"
  bool differentiable = false;
  bool shortcut = false;              // the primitive has no gradient of its own: what is recorded is the composite
  const OpDef* inplace_of = nullptr;  // for `add_`: the op it is the in-place form of
  int index = 0;                      // position in the table
  int opcode = -1;                    // pointwise rows: the scalar function (backends/program.h)
};

// The table.
TG_API const std::vector<const OpDef*>& all_ops();
// By full name; NotImplementedError if missing.
TG_API const OpDef& find_op(std::string_view name);
// Parses the schema, adds the op. Called during static initialisation by TG_OP.
TG_API const OpDef& register_op(std::string_view schema, OpSpec spec, int opcode = -1);
// All ops with this public name, in registration order (overloads are tried in this order).
TG_API std::vector<const OpDef*> overloads(std::string_view base);

// Runs an op: autocast -> profile/anomaly -> record -> capture -> execute.
TG_API void call(const OpDef& op, Args args, Outputs& out);
// Under autocast: runs the op on operands of the type its class asks for; false if the parts of the op decide.
TG_API bool call_autocast(const OpDef& op, Args args, Outputs& out);
// Runs the op's computation below the tape (used by the recorder).
TG_API void execute(const OpDef& op, Args args, Outputs& out);

// Runs an in-place op below the tape: computes, writes args[0], raises its version.
TG_API void execute_inplace(const OpDef& op, Args args, Outputs& out);
// True if a tensor among the arguments takes part in a graph.
TG_API bool any_requires_grad(Args args);

// Slots filled by higher layers; a null slot costs nothing.
struct Slots {
  // autograd: runs the op and puts a node on the tape
  void (*record)(const OpDef&, Args, Outputs&) = nullptr;
  // autograd: runs an in-place op on a tensor that has, or gets, history
  void (*record_inplace)(const OpDef&, Args, Outputs&) = nullptr;
  // autograd: the sum of what has arrived for an input of a node that is being processed, if it may be added to
  Tensor* (*gradient_so_far)(const Node&, int edge) = nullptr;
  // profiler, capture: sees every call while modes().intercept is on; returns true if it handled it
  bool (*intercept)(const OpDef&, Args, Outputs&) = nullptr;
  // interactive interruption (Ctrl-C); throws Interrupted
  void (*check_interrupt)() = nullptr;
  // text of the user's current stack, for anomaly mode
  std::string (*user_stack)() = nullptr;
  // file:line of the user's program, for notes of what holds memory
  std::string (*user_line)() = nullptr;
};
TG_API Slots& slots();

#define TG_CONCAT2(a, b) a##b
#define TG_CONCAT(a, b) TG_CONCAT2(a, b)
// TG_OP("relu(Tensor input) -> Tensor", .doc = "...", .composite = box<relu_body>, .samples = "T(3,4)")
#define TG_OP(schema, ...) \
  static const ::tg::OpDef& TG_CONCAT(tg_op_, __COUNTER__) = ::tg::register_op(schema, ::tg::OpSpec{__VA_ARGS__})

}  // namespace tg
