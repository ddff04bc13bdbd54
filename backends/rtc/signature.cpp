#include "backends/rtc/signature.h"

#include <algorithm>

namespace tg::rtc {
namespace {

// A code is 1 + dtype for a scalar, plus kUnsigned for the unsigned types that are no dtype, plus kPointer or
// kConstPointer; 0 stands for any other type.
constexpr int kUnsigned = 16, kPointer = 32, kConstPointer = 64;

constexpr const char* kSignatureText = R"~(
namespace tg_params {
template <int N> struct number { static constexpr unsigned char value = N; };
template <class T> struct code : number<0> {};
template <> struct code<bool> : number<1> {};
template <> struct code<unsigned char> : number<2> {};
template <> struct code<signed char> : number<3> {};
template <> struct code<char> : number<3> {};
template <> struct code<short> : number<4> {};
template <> struct code<int> : number<5> {};
template <> struct code<long> : number<6> {};
template <> struct code<long long> : number<6> {};
template <> struct code<unsigned short> : number<16 + 4> {};
template <> struct code<unsigned> : number<16 + 5> {};
template <> struct code<unsigned long> : number<16 + 6> {};
template <> struct code<unsigned long long> : number<16 + 6> {};
template <> struct code<float> : number<9> {};
template <> struct code<double> : number<10> {};
template <class T> struct code<T*> : number<32 + (code<T>::value < 32 ? code<T>::value : 0)> {};
template <class T> struct code<const T*> : number<64 + (code<T>::value < 32 ? code<T>::value : 0)> {};
template <int N> struct bytes { unsigned char v[N]; };
template <class... P> __device__ constexpr bytes<sizeof...(P) + 1> list(void (*)(P...)) {
  return {{(unsigned char)sizeof...(P), code<P>::value...}};
}
}
)~";

// Where messages about the lines behind the source come from.
constexpr const char* kNamePlace = "the name given for the kernel";

int code_of(const Param& p) {
  const int element = p.kind == Param::Kind::Other || p.any ? 0 : int(p.dtype) + 1 + (p.is_unsigned ? kUnsigned : 0);
  return element + (p.kind != Param::Kind::Pointer ? 0 : p.constant ? kConstPointer : kPointer);
}

}  // namespace

std::string text_with_signature(const Source& s) {
  return str(s.prelude, "#line 1 \"", "kernel.cu\"\n", s.text, "\n#line 1 \"", kNamePlace, "\"\n",
             "using tg_kernel_type = decltype(&", s.name, ");", kSignatureText,
             "#ifndef TG_EXPORT\n#define TG_EXPORT\n#endif\nextern \"C\" __device__ TG_EXPORT const auto tg_signature "
             "= tg_params::list(tg_kernel_type(nullptr));\n");
}

void refuse_wrong_name(const Source& s, const std::string& log) {
  const size_t error = log.find("error: ");
  if (error == log.npos) return;
  const size_t line = log.rfind('\n', error) + 1;  // npos + 1 is 0
  if (!log.substr(line).starts_with(kNamePlace)) return;
  std::string reason = log.substr(error + 7, log.find('\n', error) - error - 7);
  reason.resize(std::min(reason.size(), reason.find("; did you mean")));
  fail<CompileError>("kernel '", s.name, "': the source has no kernel of that name (", reason, ")");
}

std::vector<Param> decode_signature(const std::vector<uint8_t>& bytes) {
  TG_CHECK(!bytes.empty() && size_t(bytes[0]) + 1 == bytes.size(), DeviceError,
           "kernel: its parameters are not readable");
  std::vector<Param> params;
  for (size_t i = 1; i < bytes.size(); ++i) {
    Param p;
    const int element = bytes[i] % kUnsigned;
    p.is_unsigned = bytes[i] & kUnsigned;
    TG_CHECK(element <= kNumDTypes, DeviceError, "kernel: its parameters are not readable");
    p.constant = bytes[i] >= kConstPointer;
    if (bytes[i] >= kPointer) {
      p.kind = Param::Kind::Pointer;
      p.any = element == 0;
    } else if (element != 0) {
      p.kind = Param::Kind::Scalar;
    }
    if (element != 0) p.dtype = DType(element - 1);
    params.push_back(p);
  }
  return params;
}

std::string to_string(const Param& p) {
  if (p.kind == Param::Kind::Other) return "a type that cannot be passed";
  const std::string element = p.any ? "anything" : str(p.is_unsigned ? "u" : "", name(p.dtype));
  if (p.kind == Param::Kind::Scalar) return element;
  return str(p.constant ? "pointer to const " : "pointer to ", element);
}

// "NAME\nCODES\n" and the code.
std::string pack_image(const Image& image) {
  std::string s = image.name + '\n';
  for (const Param& p : image.params) s += str(code_of(p), ' ');
  return s + '\n' + image.code;
}

std::optional<Image> unpack_image(const std::string& packed) {
  const size_t first = packed.find('\n'), second = packed.find('\n', first + 1);
  if (first == packed.npos || second == packed.npos) return {};
  Image image;
  image.name = packed.substr(0, first);
  image.code = packed.substr(second + 1);
  std::vector<uint8_t> bytes{0};
  std::istringstream codes(packed.substr(first + 1, second - first - 1));
  for (int code; codes >> code;) bytes.push_back(uint8_t(code));
  bytes[0] = uint8_t(bytes.size() - 1);
  image.params = decode_signature(bytes);
  return image;
}

}  // namespace tg::rtc
