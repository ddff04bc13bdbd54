#include "backends/rtc/nvrtc.h"

#include <unistd.h>

#include <cstdlib>
#include <sstream>

#include "backends/rtc/cache.h"
#include "core/vendor.h"

namespace tg::rtc {
namespace {

// The part of nvrtc.h that is used: its C interface, stable since CUDA 8 (names of cubins: 11.1).
using Handle = struct NvrtcProgram*;
struct Library {
  int (*Version)(int*, int*);
  const char* (*GetErrorString)(int);
  int (*CreateProgram)(Handle*, const char* text, const char* file, int n, const char* const* headers,
                       const char* const* names);
  int (*DestroyProgram)(Handle*);
  int (*CompileProgram)(Handle, int n, const char* const* options);
  int (*GetProgramLogSize)(Handle, size_t*);
  int (*GetProgramLog)(Handle, char*);
  int (*GetCUBINSize)(Handle, size_t*);
  int (*GetCUBIN)(Handle, char*);
  int (*GetPTXSize)(Handle, size_t*);
  int (*GetPTX)(Handle, char*);
  int (*AddNameExpression)(Handle, const char*);
  int (*GetLoweredName)(Handle, const char*, const char**);
  NvrtcState state;
};

Library open_library() {
  Library l{};
  // libnvrtc opens its builtins by bare name, which finds nothing in a folder of Python packages.
  VendorLibrary so({"libnvrtc.so.13"}, {"libnvrtc-builtins.so.13.0"});
  l.state.tried = so.tried();
  if (!so) return l;
  l.state.path = so.path();
#define TG_GET(name) so.get(l.name, "nvrtc" #name)
  TG_GET(Version), TG_GET(GetErrorString), TG_GET(CreateProgram), TG_GET(DestroyProgram), TG_GET(CompileProgram);
  TG_GET(GetProgramLogSize), TG_GET(GetProgramLog), TG_GET(GetCUBINSize), TG_GET(GetCUBIN), TG_GET(GetPTXSize);
  TG_GET(GetPTX), TG_GET(AddNameExpression), TG_GET(GetLoweredName);
#undef TG_GET
  l.Version(&l.state.major, &l.state.minor);
  return l;
}
const Library& library() { return opened_once<open_library>(); }

// A program that ends with its scope.
class NvrtcRun {
 public:
  NvrtcRun(const Library& l, const std::string& text) : l_(l) {
    check(l.CreateProgram(&h_, text.c_str(), "kernel.cu", 0, nullptr, nullptr));
  }
  ~NvrtcRun() { l_.DestroyProgram(&h_); }
  NvrtcRun(const NvrtcRun&) = delete;
  NvrtcRun& operator=(const NvrtcRun&) = delete;
  operator Handle() const { return h_; }
  void check(int rc) const { TG_CHECK(rc == 0, DeviceError, "NVRTC: ", l_.GetErrorString(rc)); }
  // Text or bytes that NVRTC hands out as size and content.
  std::string get(int (*size)(Handle, size_t*), int (*content)(Handle, char*)) const {
    size_t n = 0;
    check(size(h_, &n));
    std::string s(n, '\0');
    check(content(h_, s.data()));
    return s;
  }

 private:
  const Library& l_;
  Handle h_ = nullptr;
};

// ".global .align 1 .b8 tg_signature[3] = {2, 9};" in the assembler's text; zeros at the end are not written.
std::vector<uint8_t> signature_in(const std::string& ptx) {
  const size_t at = ptx.find("tg_signature["), brace = at == ptx.npos ? at : ptx.find('{', at);
  if (brace == ptx.npos) return {};
  std::vector<uint8_t> bytes(size_t(std::atoi(ptx.c_str() + at + 13)));
  std::istringstream list(ptx.substr(brace + 1, ptx.find('}', brace) - brace - 1));
  std::string number;
  for (size_t i = 0; i < bytes.size() && std::getline(list, number, ','); ++i)
    bytes[i] = uint8_t(std::atoi(number.c_str()));
  return bytes;
}

// Options that let a source include the toolkit's headers, which lie beside its libraries; none where there are none.
std::vector<std::string> header_options() {
  for (const std::string& folder : vendor_folders()) {
    const std::string headers = folder + "/../include";
    if (access((headers + "/cuda_fp16.h").c_str(), R_OK) == 0)
      return {"--include-path=" + headers, "--include-path=" + headers + "/cccl"};
  }
  return {};
}

}  // namespace

const NvrtcState& nvrtc() { return library().state; }

Image compile_cuda(const Source& source, const std::string& arch) {
  const Library& l = library();
  TG_CHECK(l.state, DeviceError,
           "NVRTC, which compiles kernels at run time, was not found; pip install \"nvidia-cuda-nvrtc>=13.0,<13.1\", "
           "or pip install \"tinygrad_cpp[cuda]\". Tried:\n",
           l.state.tried);
  std::vector<std::string> options{"--gpu-architecture=" + arch, "--std=c++20"};
  options.insert(options.end(), source.options.begin(), source.options.end());
  const bool includes = source.text.find("#include") != std::string::npos;
  const std::vector<std::string> headers = includes ? header_options() : std::vector<std::string>();
  options.insert(options.end(), headers.begin(), headers.end());
  const std::string text = text_with_signature(source);
  std::string key = str("cubin NVRTC ", l.state.major, '.', l.state.minor, '\n', source.name, '\n');
  for (const std::string& o : options) key += o + '\n';
  key += text;
  if (const auto kept = cache_get(key))
    if (auto image = unpack_image(*kept)) return *std::move(image);

  NvrtcRun run(l, text);
  run.check(l.AddNameExpression(run, source.name.c_str()));
  std::vector<const char*> given;
  for (const std::string& o : options) given.push_back(o.c_str());
  const int rc = l.CompileProgram(run, int(given.size()), given.data());
  if (rc != 0) {
    const std::string log = run.get(l.GetProgramLogSize, l.GetProgramLog);
    refuse_wrong_name(source, log);
    fail<CompileError>("kernel '", source.name, "' does not compile (NVRTC ", l.state.major, '.', l.state.minor, ", ",
                       arch, "): ", l.GetErrorString(rc), '\n', log.c_str(),
                       includes && headers.empty() ? "No headers of CUDA were found: pip install nvidia-cuda-runtime "
                                                     "nvidia-cuda-cccl, or give their folder by the option -I\n"
                                                   : "");
  }
  Image image;
  image.code = run.get(l.GetCUBINSize, l.GetCUBIN);
  image.params = decode_signature(signature_in(run.get(l.GetPTXSize, l.GetPTX)));
  const char* lowered = nullptr;
  run.check(l.GetLoweredName(run, source.name.c_str(), &lowered));
  image.name = lowered;
  cache_put(key, pack_image(image));
  return image;
}

}  // namespace tg::rtc
