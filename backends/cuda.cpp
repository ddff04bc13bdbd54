#include "backends/cuda.h"

#include <dlfcn.h>
#ifdef __linux__
#include <elf.h>
#endif
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "backends/cuda_counts.h"
#include "core/device_use.h"
#include "core/version.h"

namespace tg::cuda {
namespace {

bool env_on(const char* name) {
  const char* v = std::getenv(name);
  return v && *v && std::string_view(v) != "0";
}

struct State {
  std::mutex mutex;
  bool emulated = env_on("TG_CUDA_EMULATE");
  bool opened = false;
  std::atomic<Runtime*> runtime{nullptr};  // set once a device was used or the plug-in looked for
  std::string path, problem;
};
State& state() {
  static State* s = new State;
  return *s;
}

// Folder of this very library.
std::string own_folder() {
  Dl_info info{};
  if (!dladdr(reinterpret_cast<void*>(&own_folder), &info) || !info.dli_fname) return ".";
  std::string path = info.dli_fname;
  size_t slash = path.rfind('/');
  return slash == path.npos ? "." : path.substr(0, slash);
}

#ifdef __APPLE__
constexpr const char* kSuffix = ".dylib";
#else
constexpr const char* kSuffix = ".so";
#endif

std::string packaged_plugin(bool emulated) {
  return own_folder() + "/libtinygrad_cuda" + (emulated ? "_emu" : "") + kSuffix;
}
// The file that TG_CUDA_PLUGIN names; otherwise the plug-in lies next to this library.
std::string given_plugin() {
  const char* given = std::getenv("TG_CUDA_PLUGIN");
  return given ? given : "";
}

// How long a library's file must be by its own header; 0 if there is none to be read. The loader maps what the header
// tells of, so that opening a file that was cut ends the process.
uint64_t bytes_by_header([[maybe_unused]] const std::string& path) {
  uint64_t end = 0;
#ifdef __linux__
  std::ifstream file(path, std::ios::binary);
  Elf64_Ehdr h;
  if (!file.read(reinterpret_cast<char*>(&h), sizeof h) || std::memcmp(h.e_ident, ELFMAG, SELFMAG) != 0) return 0;
  end = std::max<uint64_t>(h.e_shoff + uint64_t(h.e_shentsize) * h.e_shnum,
                           h.e_phoff + uint64_t(h.e_phentsize) * h.e_phnum);
  Elf64_Phdr part;
  file.seekg(std::streamoff(h.e_phoff));
  for (int i = 0; i < h.e_phnum && file.read(reinterpret_cast<char*>(&part), sizeof part); ++i)
    end = std::max<uint64_t>(end, part.p_offset + part.p_filesz);
#endif
  return end;
}

Runtime* open_plugin(const std::string& path, std::string& problem) {
  std::error_code none;
  const uint64_t size = std::filesystem::file_size(path, none), needed = none ? 0 : bytes_by_header(path);
  if (size < needed) {
    problem = str("the CUDA plug-in ", path, " is damaged: it has ", size, " of ", needed, " bytes; install it again");
    return nullptr;
  }
  void* lib = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!lib) {
    problem = str("the CUDA plug-in could not be opened (", dlerror(),
                  "); it is part of wheels and builds made where nvcc was found (CMake: TG_CUDA=ON)");
    return nullptr;
  }
  auto entry = reinterpret_cast<PluginEntry*>(dlsym(lib, "tg_cuda_plugin"));
  Runtime* r = entry ? entry(kPluginAbi, TG_VERSION) : nullptr;
  if (!r) problem = str("the CUDA plug-in ", path, " belongs to another version of tinygrad_cpp; build both together");
  return r;
}

// What is wrong with the environment's numbers for the emulation; empty if nothing is.
std::string wrong_number_for_emulation() {
  constexpr struct {
    const char* name;
    int low, high;
  } numbers[] = {{"TG_CUDA_EMULATE_DEVICES", 0, 16}, {"TG_CUDA_EMULATE_MEMORY_MB", 1, 200000}};
  for (auto [name, low, high] : numbers) {
    const char* text = std::getenv(name);
    if (!text || !*text) continue;
    int v = 0;
    const char* end = text + std::strlen(text);
    const auto [stop, error] = std::from_chars(text, end, v);
    if (error != std::errc() || stop != end || v < low || v > high)
      return str(name, " is '", text, "', expected a number from ", low, " to ", high);
  }
  return {};
}

Runtime* open_locked(State& s) {
  if (!s.opened) {
    s.opened = true;
    const std::string given = given_plugin();
    s.path = given.empty() ? packaged_plugin(s.emulated) : given;
    if (s.emulated) s.problem = wrong_number_for_emulation();
    if (s.problem.empty()) s.runtime = open_plugin(s.path, s.problem);
  }
  return s.runtime;
}

// Whether this process was forked from one that had looked at its devices. The driver is of no use in it any more.
std::atomic<bool> in_fork = false;
void watch_forks() {
  static const int once = pthread_atfork(nullptr, nullptr, [] { in_fork = true; });
  (void)once;
}
[[noreturn]] void refuse_in_fork() {
  fail<DeviceError>(
      "cuda: this process was forked from one that had used its devices, and cannot use them: a worker of a DataLoader "
      "makes batches of CPU tensors, which the main process moves (pin_memory=True, then .to(\"cuda\", "
      "non_blocking=True)); workers that need a device are started by multiprocessing_context=\"spawn\"");
}

// In such a process memory of a device is neither taken nor given back: it is the other process's.
class ForkedAllocator final : public Allocator {
 public:
  void* allocate(size_t) override { refuse_in_fork(); }
  void deallocate(void*, size_t) override {}
  MemoryStats stats() const override { return {}; }
  void reset_peak() override {}
  void release_cached() override {}
  void share_blocks_of_thread() override {}
  void set_limit(int64_t) override {}
  void fail_at(int64_t) override {}
  void copy(void*, const void*, size_t) override { refuse_in_fork(); }
};

const char* kFallback =
    "; the CPU works without it, and tg.cuda.emulate() runs CUDA code on the CPU, slowly and for tests only";

}  // namespace

Runtime* plugin() noexcept {
  State& s = state();
  if (Runtime* r = s.runtime.load(std::memory_order_acquire)) return r;
  try {
    std::lock_guard lock(s.mutex);
    return open_locked(s);
  } catch (...) {
    return nullptr;
  }
}

Probe probe() noexcept {
  Probe p;
  if (Runtime* r = plugin()) {
    p = r->probe();
    if (p.devices > 0) watch_forks();
  } else {
    p.missing = Missing::Plugin;
    p.text = state().problem;
    p.emulated = state().emulated;
  }
  p.plugin_path = state().path;
  return p;
}

bool is_built() { return access(packaged_plugin(false).c_str(), R_OK) == 0; }
bool is_available() noexcept { return device_count() > 0; }

int device_count() noexcept {
  static std::atomic<int> counts[2] = {-1, -1};  // of the machine, of the emulation
  Runtime* r = plugin();
  if (!r) return 0;
  std::atomic<int>& n = counts[r->emulated()];
  if (n < 0) {
    n = r->probe().devices;
    if (n > 0) watch_forks();
  }
  return n;
}

bool forked() noexcept { return in_fork.load(std::memory_order_relaxed); }

bool capturing() noexcept {
  Runtime* r = state().runtime.load(std::memory_order_acquire);
  return r && r->capturing();
}

Runtime& runtime() {
  Runtime* r = plugin();
  if (TG_UNLIKELY(!r || device_count() == 0)) fail<DeviceError>("cuda: ", probe().text, kFallback);
  if (TG_UNLIKELY(forked())) refuse_in_fork();
  devices_used.store(true, std::memory_order_relaxed);
  return *r;
}

static std::atomic<bool> tf32_allowed = false;
bool allow_tf32() noexcept { return tf32_allowed.load(std::memory_order_relaxed); }
void set_allow_tf32(bool on) noexcept { tf32_allowed = on; }

static std::atomic<bool> conv_tf32_allowed = false, cudnn_used = true;
bool allow_tf32_in_convolutions() noexcept { return conv_tf32_allowed.load(std::memory_order_relaxed); }
void set_allow_tf32_in_convolutions(bool on) noexcept { conv_tf32_allowed = on; }
bool use_cudnn() noexcept { return cudnn_used.load(std::memory_order_relaxed); }
void set_use_cudnn(bool on) noexcept { cudnn_used = on; }
DnnAttentionCounts& dnn_attention_counts() noexcept {
  static DnnAttentionCounts counts;
  return counts;
}

void emulate(bool on) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  if (s.emulated == on) return;
  bool used = s.runtime.load() && device_count() > 0;
  TG_CHECK(!used, ValueError, "cuda.emulate: a CUDA device has been used already; choose before the first use");
  s.emulated = on;
  s.opened = false;
  s.runtime = nullptr;
  s.problem.clear();
}

bool emulating() {
  // A file that the environment names may be either: it is asked. Otherwise nothing is opened for an answer, as
  // emulate() may still be called.
  Runtime* r = given_plugin().empty() ? state().runtime.load(std::memory_order_acquire) : plugin();
  return r ? r->emulated() : state().emulated;
}

namespace {

void check_index(Device d) {
  Runtime& r = runtime();
  TG_CHECK(d.index < device_count(), DeviceError, "cuda: device ", d, " is not available: there ",
           device_count() == 1 ? "is 1 CUDA device" : str("are ", device_count(), " CUDA devices"),
           r.emulated() ? " (emulation)" : "");
}

// What core/ asks for, see core/allocator.h and core/device.h.
[[maybe_unused]] const bool connected = [] {
  device_allocator = [](Device d) -> Allocator& {
    static auto* without_devices = new ForkedAllocator;
    if (forked()) return *without_devices;
    check_index(d);
    return runtime().allocator(d.index);
  };
  device_note = [](Device d) { return !d.is_cpu() && emulating() ? " (emulation)" : ""; };
  return true;
}();

}  // namespace

Backend& backend(Device d) {
  check_index(d);
  return runtime().backend(d.index);
}

}  // namespace tg::cuda
