// Kernels compiled at run time: the text of every row and of longer programs, compiled by NVRTC where it is installed.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>

#include "backends/rtc/cache.h"
#include "backends/rtc/nvrtc.h"
#include "core/file.h"
#include "tests/cpp/rtc_cases.h"

using namespace tg;
using namespace tg::test;

namespace {

// An environment variable for a scope.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* v = std::getenv(name)) old_ = v, had_ = true;
    setenv(name, value.c_str(), 1);
  }
  ~Variable() { had_ ? setenv(name_, old_.c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::string old_;
  bool had_ = false;
};

// A folder for the kernels of a test, which goes with all that is in it.
struct CacheFolder {
  std::string path = "/tmp/tg_rtc_test.XXXXXX";
  Variable xdg;
  CacheFolder() : xdg("XDG_CACHE_HOME", mkdtemp(path.data())) {}
  ~CacheFolder() {
    if (std::system(("rm -rf " + path).c_str()) != 0) std::printf("%s stays\n", path.c_str());
  }
};

bool have_nvrtc(const char* what) {
  if (rtc::nvrtc()) return true;
  std::printf("%s: left out, NVRTC is not installed\n", what);
  return false;
}

rtc::Source add_one(const std::string& body) {
  return {"add_one",
          "__global__ void add_one(const float* a, float* out, int n, long long, bool) {\n  " + body + "\n}\n"};
}

}  // namespace

TEST_CASE("rtc: every row, several forms and longer programs compile under NVRTC") {
  if (!have_nvrtc("rtc generated kernels")) return;
  CacheFolder folder;
  Count count("rtc kernels compiled by NVRTC for sm_90a");
  for (const auto& batch : batches(all_cases(Rng(11)), 120)) {
    rtc::Source s{
        batch.front().kernel_name(), "", {"--device-as-default-execution-space", "--fmad=false"}, rtc::device_text()};
    for (const MapCase& c : batch) s.text += c.text(), ++count.n;
    try {
      CHECK(rtc::compile_cuda(s, "sm_90a").code.size() > 1000);
    } catch (const CompileError& e) {
      FAIL_CHECK(e.what());
    }
  }
}

TEST_CASE("rtc: NVRTC tells the parameters of a kernel") {
  if (!have_nvrtc("rtc parameters")) return;
  CacheFolder folder;
  const rtc::Image image = rtc::compile_cuda(add_one("out[n] = a[n] + 1;"), "sm_90a");
  std::string params;
  for (const auto& p : image.params) params += rtc::to_string(p) + ", ";
  CHECK(params == "pointer to const float32, pointer to float32, int32, int64, bool, ");
  CHECK(image.code.substr(1, 3) == "ELF");
  CHECK(image.name.find("add_one") != std::string::npos);
  // A template, a namespace, no parameters, unsigned numbers and a type of the source's own.
  rtc::Source s{"user::f<float>",
                "struct Own { int a, b; };\nnamespace user { template <class T> __global__ void f(T* x, unsigned n, "
                "Own o, const Own* p, void* q) { x[n] = o.a; } }"};
  params.clear();
  for (const auto& p : rtc::compile_cuda(s, "sm_80").params) params += rtc::to_string(p) + ", ";
  CHECK(params ==
        "pointer to float32, uint32, a type that cannot be passed, pointer to const anything, pointer to anything, ");
  CHECK(rtc::compile_cuda({"nothing", "__global__ void nothing() {}"}, "sm_80").params.empty());
}

TEST_CASE("rtc: a kernel that does not compile shows message, line and source") {
  if (!have_nvrtc("rtc errors")) return;
  CacheFolder folder;
  try {
    rtc::compile_cuda(add_one("out[0] = missing + 1;"), "sm_90a");
    FAIL("compiled");
  } catch (const CompileError& e) {
    const std::string text = e.what();
    CHECK(text.find("kernel 'add_one' does not compile (NVRTC 13") == 0);
    CHECK(text.find("kernel.cu(2): error: identifier \"missing\" is undefined") != text.npos);
    CHECK(text.find("out[0] = missing + 1;") != text.npos);
  }
  rtc::Source misnamed = add_one("");
  misnamed.name = "add_two";
  CHECK_THROWS_WITH_AS(rtc::compile_cuda(misnamed, "sm_90a"),
                       "kernel 'add_two': the source has no kernel of that name (identifier \"add_two\" is undefined)",
                       CompileError);
  CHECK_THROWS_AS(rtc::compile_cuda(add_one(""), "sm_12345"), CompileError);
}

TEST_CASE("rtc: sources include the toolkit's headers, or are told how to have them") {
  if (!have_nvrtc("rtc headers")) return;
  CacheFolder folder;
  const rtc::Source s{"twice", "#include <cuda_fp16.h>\n__global__ void twice(__half* x) { *x = __hadd(*x, *x); }"};
  try {
    const rtc::Image image = rtc::compile_cuda(s, "sm_90a");
    CHECK(image.params.size() == 1);
    CHECK(rtc::to_string(image.params[0]) == "pointer to anything");
  } catch (const CompileError& e) {  // a machine without them
    CHECK(std::string(e.what()).find("No headers of CUDA were found: pip install") != std::string::npos);
  }
}

TEST_CASE("rtc: kernels are kept on disk, damaged files are made anew") {
  CacheFolder folder;
  const std::string key = "some text", image("\0binary\n", 8);
  CHECK(!rtc::cache_get(key));
  rtc::cache_put(key, image);
  CHECK(rtc::cache_get(key) == image);
  CHECK(!rtc::cache_get("another text"));
  const std::string path = rtc::cache_path(key), whole = io::read_file(path);
  // Every byte that is flipped, and every length that a crash could leave, is noticed.
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = char(damaged[i] ^ 0x40);
    io::write_file(path, {{damaged.data(), damaged.size()}});
    const auto got = rtc::cache_get(key);
    CHECK_MESSAGE(!got, "byte ", i);
    io::write_file(path, {{whole.data(), i}});
    CHECK_MESSAGE(!rtc::cache_get(key), "cut at ", i);
  }
  // An entry of another key under this name, as equal hashes would make it.
  rtc::cache_put("text some", image);
  const std::string other = io::read_file(rtc::cache_path("text some"));
  io::write_file(path, {{other.data(), other.size()}});
  CHECK(!rtc::cache_get(key));
  rtc::cache_put(key, image);
  CHECK(rtc::cache_get(key) == image);
  // Where nothing can be written, nothing is kept, and nobody is told.
  Variable nowhere("XDG_CACHE_HOME", "/proc/nowhere");
  rtc::cache_put(key, image);
  CHECK(!rtc::cache_get(key));
}

TEST_CASE("rtc: a kept kernel is the compiled one, parameters included") {
  if (!have_nvrtc("rtc disk cache")) return;
  CacheFolder folder;
  const rtc::Source s = add_one("out[n] = a[n] + 1;");
  auto timed = [&](rtc::Image& image) {
    const auto start = std::chrono::steady_clock::now();
    image = rtc::compile_cuda(s, "sm_90a");
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  rtc::Image made, kept;
  const double compile = timed(made), load = timed(kept);
  std::printf("rtc: compiled in %.1f ms, from disk in %.2f ms\n", compile * 1e3, load * 1e3);
  CHECK(made.code == kept.code);
  CHECK(made.name == kept.name);
  CHECK(made.params.size() == kept.params.size());
  CHECK(rtc::compile_cuda(s, "sm_80").code != made.code);  // the architecture is part of the key
}

TEST_CASE("rtc: without NVRTC the error says what to install") {
  if (rtc::nvrtc()) return;
  CHECK_THROWS_WITH_AS(rtc::compile_cuda(add_one(""), "sm_90a"), doctest::Contains("pip install \"nvidia-cuda-nvrtc"),
                       DeviceError);
}

TEST_CASE("rtc: programs that no row or rule allows are refused") {
  Rng rng(3);
  MapCase c = make_case("bad", {}, {DType::F32}, {DType::F32}, {8}, {Layout::Contiguous}, Layout::Contiguous, rng);
  c.program.compute = DType::F16;
  CHECK_THROWS_AS(c.call(), DTypeError);
  c.program.compute = DType::F32;
  c.program.code.push_back({Opc::bitwise_and, {0, 0}});
  CHECK_THROWS_AS(c.call(), DTypeError);
  c.program.code = {};
  c.program.n_inputs = 2;
  CHECK_THROWS_AS(c.call(), ValueError);
}
