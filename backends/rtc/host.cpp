#include "backends/rtc/host.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <regex>

#include "backends/rtc/cache.h"
#include "core/file.h"

extern char** environ;

namespace tg::rtc {
namespace {

constexpr const char* kBefore = R"~(#define TG_CUDA_EMULATION 1
#include <array>
#include <bit>
#include <cstdio>
#include <iterator>
#include <limits>
#include <utility>
)~";

// Shared memory of a user's kernel. One block runs at a time, so a static is the block's; what the launch asks for is
// an object that turns into its address.
constexpr const char* kShared = R"~(
#define __shared__ static
namespace tg_entry {
template <class T> struct DynamicShared { operator T*() const { return static_cast<T*>(tg::emu::dynamic_shared()); } };
}
)~";

constexpr const char* kEntry = R"~(
namespace tg_entry {
template <class... P, std::size_t... I>
cudaError_t start(void (*kernel)(P...), void* const* args, dim3 grid, dim3 block, std::size_t shared, cudaStream_t s,
                  std::index_sequence<I...>) {
  return tg::emu::launch_kernel(name, kernel, grid, block, shared, s, *static_cast<std::decay_t<P>*>(args[I])...);
}
template <class... P> constexpr std::size_t count(void (*)(P...)) { return sizeof...(P); }
}
extern "C" TG_EXPORT const void* const tg_kernel_function = reinterpret_cast<const void*>(tg_kernel_type(&TG_KERNEL));
extern "C" TG_EXPORT cudaError_t tg_emulated_launch(void* const* args, const unsigned* grid, const unsigned* block,
                                                    std::size_t shared, cudaStream_t s) {
  return tg_entry::start(tg_kernel_type(&TG_KERNEL), args, dim3(grid[0], grid[1], grid[2]),
                         dim3(block[0], block[1], block[2]), shared, s,
                         std::make_index_sequence<tg_entry::count(tg_kernel_type(nullptr))>());
}
)~";

std::string with_dynamic_shared(const std::string& text) {
  static const std::regex declaration(
      R"(extern\s+__shared__\s+(?:__align__\s*\(\s*\w+\s*\)\s*)?([\w:\s]+?)\s+(\w+)\s*\[\s*\]\s*;)");
  return std::regex_replace(text, declaration, "const tg_entry::DynamicShared<$1> $2;");
}

std::string find_program(const std::string& name) {
  if (name.find('/') != name.npos) return access(name.c_str(), X_OK) == 0 ? name : std::string();
  const char* path = std::getenv("PATH");
  std::istringstream folders(path ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');)
    if (std::string full = folder + '/' + name; access(full.c_str(), X_OK) == 0) return full;
  return {};
}

// A folder that goes with its scope, contents included.
class WorkFolder {
 public:
  WorkFolder() {
    const char* t = std::getenv("TMPDIR");
    path_ = str(t && *t ? t : "/tmp", "/tinygrad_cpp.XXXXXX");
    TG_CHECK(mkdtemp(path_.data()), IoError, path_, ": no folder for temporary files could be made");
  }
  ~WorkFolder() {
    for (const std::string& f : files_) unlink(f.c_str());
    rmdir(path_.c_str());
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  std::string file(const std::string& name) {
    files_.push_back(path_ + '/' + name);
    return files_.back();
  }

 private:
  std::string path_;
  std::vector<std::string> files_;
};

// Runs a command with both outputs in `log`; whether it succeeded.
bool run_command(const std::vector<std::string>& command, const std::string& log) {
  std::vector<char*> argv;
  for (const std::string& c : command) argv.push_back(const_cast<char*>(c.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  pid_t pid;
  const int rc = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  TG_CHECK(rc == 0, DeviceError, argv[0], ": could not be started");
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// The flags that make a kernel's arithmetic that of the CPU backend, and the sanitizers of this library.
std::vector<std::string> host_flags() {
  return {
      "-x",
      "c++",
      "-std=c++20",
      "-O1",
      "-g1",
      "-fPIC",
      "-shared",
      "-fvisibility=hidden",
      "-ffp-contract=off",
      "-fno-math-errno",
      "-fwrapv",
      "-w",
      "-fmax-errors=5",
      "-fno-diagnostics-show-caret",
#if defined(__SANITIZE_ADDRESS__)
      "-fsanitize=address,undefined",
      "-fno-sanitize-recover=all",
#elif defined(__SANITIZE_THREAD__)
      "-fsanitize=thread",
#endif
  };
}

// The compiler's messages, each about the source followed by the line it is about.
std::string with_lines(const std::string& log, const std::string& text) {
  static const std::regex place(R"(^kernel\.cu:(\d+):\d+: .*)");
  std::vector<std::string> source;
  std::istringstream lines(text), messages(log);
  for (std::string line; std::getline(lines, line);) source.push_back(line);
  std::string out;
  std::smatch m;
  for (std::string message; std::getline(messages, message);) {
    out += message + '\n';
    if (!std::regex_match(message, m, place)) continue;
    const size_t number = std::stoul(m[1]);
    if (number >= 1 && number <= source.size()) out += str("    ", number, " | ", source[number - 1], '\n');
  }
  return out;
}

std::string host_text(const Source& source) {
  Source s = source;
  s.text = with_dynamic_shared(source.text);
  const std::string prelude = str(kBefore, emulation_text(), kShared, source.prelude,
                                  "#define TG_EXPORT __attribute__((visibility(\"default\")))\n");
  s.prelude = prelude.c_str();
  return str(text_with_signature(s), "namespace tg_entry { constexpr const char* name = R\"~(", source.name,
             ")~\"; }\n#define TG_KERNEL ", source.name, kEntry);
}

}  // namespace

std::string host_compiler() {
  if (const char* set = std::getenv("TG_HOST_CXX")) return find_program(set);
  for (const char* name : {"c++", "g++", "clang++"})
    if (std::string path = find_program(name); !path.empty()) return path;
  return {};
}

Image compile_host(const Source& source, const std::string& plugin) {
  const std::string compiler = host_compiler();
  TG_CHECK(!compiler.empty(), DeviceError, "kernel '", source.name,
           "': there is no GPU, and no C++ compiler for the emulation either; install g++ or set TG_HOST_CXX");
  TG_CHECK(source.text.find("__global__") != source.text.npos || source.text.find("#include") != source.text.npos,
           CompileError, "kernel '", source.name, "': the source has no __global__ function");
  const std::string text = host_text(source);
  // Options are NVRTC's: definitions and include folders are common ground.
  std::vector<std::string> command{compiler};
  for (const std::string& f : host_flags()) command.push_back(f);
  for (const std::string& o : source.options)
    if (o.starts_with("-D") || o.starts_with("-I") || o.starts_with("-U")) command.push_back(o);
  std::string key = str("emulated ", plugin, '\n');
  for (const std::string& c : command) key += c + '\n';
  key += text;
  if (const auto kept = cache_get(key))
    if (auto image = unpack_image(*kept)) return *std::move(image);

  WorkFolder folder;
  const std::string in = folder.file("kernel.cu"), out = folder.file("kernel.so"), log = folder.file("log");
  io::write_file(in, {{text.data(), text.size()}});
  command.insert(command.end(), {"-o", out, in, "-x", "none", plugin});
  if (!run_command(command, log)) {
    const std::string messages = io::read_file(log);
    refuse_wrong_name(source, messages);
    const bool halves =
        messages.find("cuda_fp16.h: ") != messages.npos || messages.find("cuda_bf16.h: ") != messages.npos;
    fail<CompileError>("kernel '", source.name, "' does not compile (", compiler, ", for the emulation):\n",
                       with_lines(messages, source.text),
                       halves
                           ? "The emulation has no headers of the toolkit: a kernel that is to run there takes halves "
                             "as unsigned short, see docs/cuda.md\n"
                           : "");
  }
  Image image;
  image.code = io::read_file(out);
  image.name = "tg_emulated_launch";
  const auto* codes = static_cast<const uint8_t*>(image_symbol(open_image(image.code), "tg_signature"));
  image.params = decode_signature({codes, codes + codes[0] + 1});
  cache_put(key, pack_image(image));
  return image;
}

void* open_image(const std::string& bytes) {
  WorkFolder folder;  // a new name each time: the loader takes equal names for one library
  const std::string path = folder.file("kernel.so");
  io::write_file(path, {{bytes.data(), bytes.size()}});
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  TG_CHECK(library, DeviceError, "kernel: the compiled object does not load: ", dlerror());
  return library;
}

void* image_symbol(void* library, const char* name) {
  void* s = dlsym(library, name);
  TG_CHECK(s, DeviceError, "kernel: the compiled object has no symbol ", name);
  return s;
}

}  // namespace tg::rtc
