#include "backends/rtc/raw_kernel.h"

#include <cstring>
#include <limits>
#include <map>
#include <mutex>

#include "backends/cuda.h"
#include "backends/rtc/loaded.h"
#include "core/modes.h"

namespace tg::cuda {

struct RawKernel::State {
  rtc::Source source;
  std::mutex mutex;
  std::map<int, rtc::Loaded> loaded;  // by device
  std::string ran_on;

  const rtc::Loaded& on(int device) {
    std::lock_guard lock(mutex);
    auto at = loaded.find(device);
    if (at == loaded.end()) at = loaded.emplace(device, rtc::load(source, device)).first;
    return at->second;
  }
};

namespace {

using rtc::Param;

// An argument's bytes as the parameter's type wants them.
struct Slot {
  alignas(8) char bytes[8] = {};
};

template <class T>
void set_slot(Slot& s, T v) {
  std::memcpy(s.bytes, &v, sizeof v);
}

// Text that starts every message: "RawKernel 'add': argument 2 of 4".
std::string place(const std::string& kernel, size_t i, size_t n) {
  return str("RawKernel '", kernel, "': argument ", i, " of ", n);
}

// The bits of a half are what a source without the toolkit's headers can take.
bool fits(DType t, const Param& p) {
  return p.any || t == p.dtype || (is_half(t) && p.dtype == DType::I16 && p.is_unsigned);
}

void set_tensor(Slot& s, const Tensor& t, const Param& p, const std::string& where) {
  TG_CHECK(p.kind == Param::Kind::Pointer, TypeError, where, " is a tensor, the parameter is ", to_string(p));
  TG_CHECK(fits(t.dtype(), p), DTypeError, where, " is ", describe(t), ", the parameter is ", to_string(p));
  TG_CHECK(t.is_contiguous(), ValueError, where, " is ", describe(t), " with strides ", t.strides(),
           ": a kernel sees bare memory, pass contiguous()");
  TG_CHECK(
      !t.requires_grad() || !modes().grad, AutogradError, where,
      " requires grad, but a kernel has no gradient: call it in forward() of a Function with its own backward(), or "
      "under no_grad()");
  set_slot(s, t.data());
}

template <class T>
T whole_number(const Scalar& v, const Param& p, const std::string& where) {
  TG_CHECK(!v.is_float(), TypeError, where, " is the floating-point number ", v.d(), ", the parameter is ",
           to_string(p));
  const int64_t i = v.i();
  const bool fits = p.is_unsigned
                        ? i >= 0 && (sizeof(T) == 8 || uint64_t(i) >> (8 * sizeof(T) % 64) == 0)
                        : i >= int64_t(std::numeric_limits<T>::min()) && i <= int64_t(std::numeric_limits<T>::max());
  TG_CHECK(fits, ValueError, where, " is ", i, ", which ", to_string(p), " does not hold");
  return T(i);
}

// A number without a type of its own.
void set_scalar(Slot& s, const Scalar& v, const Param& p, const std::string& where) {
  visit(p.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_same_v<T, bool>)
      set_slot(s, v.b());
    else if constexpr (std::is_integral_v<T>)
      set_slot(s, whole_number<T>(v, p, where));
    else
      set_slot(s, convert<T>(v.d()));
  });
}

void set_argument(Slot& s, const KernelArg& a, const Param& p, const std::string& where) {
  if (const Tensor* t = std::get_if<Tensor>(&a)) return set_tensor(s, *t, p, where);
  TG_CHECK(p.kind == Param::Kind::Scalar, TypeError, where, " is a number, the parameter is ", to_string(p));
  std::visit(
      [&](const auto& v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, Scalar>) {
          set_scalar(s, v, p, where);
        } else if constexpr (!std::is_same_v<T, Tensor>) {
          TG_CHECK(DTypeOf<T>::value == p.dtype && !p.is_unsigned, DTypeError, where, " is ",
                   tg::name(DTypeOf<T>::value), ", the parameter is ", to_string(p));
          set_slot(s, v);
        }
      },
      a);
}

int device_of(const std::string& kernel, const std::vector<KernelArg>& args) {
  const Tensor* first = nullptr;
  for (size_t i = 0; i < args.size(); ++i) {
    const Tensor* t = std::get_if<Tensor>(&args[i]);
    if (!t) continue;
    TG_CHECK(t->defined(), TypeError, place(kernel, i, args.size()), " is an undefined tensor");
    TG_CHECK(!t->device().is_cpu(), DeviceError, place(kernel, i, args.size()), " is ", describe(*t),
             ": kernels run on CUDA tensors; without a GPU, cuda.emulate() lets the CPU play one");
    TG_CHECK(!first || t->device() == first->device(), DeviceError, place(kernel, i, args.size()), " is on ",
             t->device(), ", others are on ", first->device());
    if (!first) first = t;
  }
  return first ? first->device().index : runtime().current_device();
}

// What the kernel is queued on: of the device that it runs on, whose memory it sees.
StreamHandle stream_on(const std::string& kernel, int device, const std::optional<KernelStream>& given) {
  if (!given) return runtime().current_stream(device);
  int theirs = given->device;
  if (theirs < 0 && given->handle) theirs = runtime().stream_device(given->handle);
  TG_CHECK(theirs < 0 || theirs == device, DeviceError, "RawKernel '", kernel, "': the stream is of cuda:", theirs,
           ", the tensors are on cuda:", device);
  return given->handle;
}

void check_sizes(const std::string& kernel, const Dim3& grid, const Dim3& block, const DeviceProperties& p) {
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  TG_CHECK(grid.x && grid.y && grid.z && threads, ValueError, "RawKernel '", kernel, "': a grid or block of size 0");
  TG_CHECK(threads <= uint64_t(p.max_threads_per_block) && block.z <= 64, ValueError, "RawKernel '", kernel,
           "': a block of ", block.x, " x ", block.y, " x ", block.z, " threads; at most ", p.max_threads_per_block,
           " are possible, 64 of them in z");
  TG_CHECK(grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535, ValueError, "RawKernel '", kernel,
           "': a grid of ", grid.x, " x ", grid.y, " x ", grid.z,
           " blocks; at most 2147483647 x 65535 x 65535 are possible");
}

}  // namespace

RawKernel::RawKernel(std::string source, std::string name, std::vector<std::string> options)
    : state_(std::make_shared<State>()) {
  state_->source = {std::move(name), std::move(source), std::move(options)};
}

void RawKernel::compile() const { state_->on(runtime().current_device()); }
const std::string& RawKernel::name() const { return state_->source.name; }
std::string RawKernel::ran_on() const {
  std::lock_guard lock(state_->mutex);
  return state_->ran_on;
}

void RawKernel::operator()(Dim3 grid, Dim3 block, const std::vector<KernelArg>& args, size_t shared,
                           std::optional<KernelStream> stream) const {
  const int device = device_of(name(), args);
  const StreamHandle on = stream_on(name(), device, stream);
  const DeviceProperties properties = runtime().properties(device);
  check_sizes(name(), grid, block, properties);
  const rtc::Loaded& kernel = state_->on(device);
  if (args.size() != kernel.params.size()) {
    std::string takes;
    for (const Param& p : kernel.params) takes += (takes.empty() ? "" : ", ") + to_string(p);
    fail<TypeError>("RawKernel '", name(), "': takes ", kernel.params.size(), " arguments (", takes, "), given ",
                    args.size());
  }
  std::vector<Slot> slots(args.size());
  std::vector<void*> addresses(args.size() + 1);
  for (size_t i = 0; i < args.size(); ++i) {
    set_argument(slots[i], args[i], kernel.params[i], place(name(), i, args.size()));
    addresses[i] = slots[i].bytes;
  }
  const unsigned g[] = {grid.x, grid.y, grid.z}, b[] = {block.x, block.y, block.z};
  try {
    runtime().kernel_launch(kernel.handle, g, b, shared, on, addresses.data());
  } catch (ValueError& e) {
    e.text = str("RawKernel '", name(), "': ", e.text);
    throw;
  }
  for (size_t i = 0; i < args.size(); ++i)
    if (const Tensor* t = std::get_if<Tensor>(&args[i]); t && !kernel.params[i].constant) t->bump_version("RawKernel");
  std::lock_guard lock(state_->mutex);
  state_->ran_on = runtime().emulated() ? "emulation" : properties.name;
}

}  // namespace tg::cuda
