#include "core/vendor.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>

namespace tg {
namespace {

// "a:b" -> a, b
std::vector<std::string> parts_of(std::string list) {
  std::vector<std::string> parts;
  for (size_t colon; (colon = list.find(':')) != list.npos; list.erase(0, colon + 1))
    parts.push_back(list.substr(0, colon));
  parts.push_back(list);
  return parts;
}

// site-packages/tinygrad_cpp/libtinygrad_cpp.so -> site-packages/nvidia/cu13/lib
std::string sibling_folder() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<void*>(&sibling_folder), &info) || !info.dli_fname) return {};
  std::string path = info.dli_fname;
  for (int up = 0; up < 2; ++up) {
    size_t slash = path.rfind('/');
    if (slash == path.npos) return {};
    path.resize(slash);
  }
  return path + "/nvidia/cu13/lib";
}

}  // namespace

std::vector<std::string> (*python_vendor_folders)() = nullptr;

std::vector<std::string> vendor_folders() {
  std::vector<std::string> all;
  if (const char* set = std::getenv("TG_CUDA_LIB_DIR")) all = parts_of(set);
  if (python_vendor_folders)
    for (std::string& folder : python_vendor_folders()) all.push_back(std::move(folder));
  all.push_back(sibling_folder());
  all.insert(all.end(), {"/usr/local/cuda/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"});
  std::erase(all, std::string());
  return all;
}

bool left_out_by_user(const std::string& library) {
  const char* set = std::getenv("TG_CUDA_WITHOUT");
  if (!set) return false;
  for (const std::string& name : parts_of(set))
    if (library.starts_with("lib" + name + ".so")) return true;
  return false;
}

VendorLibrary::VendorLibrary(const std::vector<std::string>& names, const std::vector<std::string>& before) {
  for (const std::string& name : names)
    if (left_out_by_user(name)) {
      tried_ = str("  ", name, ": left out by TG_CUDA_WITHOUT\n");
      return;
    }
  auto open = [&](const std::string& path) {
    handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_)
      path_ = path;
    else
      tried_ += str("  ", path, ": ", dlerror(), '\n');
    return handle_ != nullptr;
  };
  for (const std::string& folder : vendor_folders())
    for (const std::string& name : names) {
      const std::string path = folder + '/' + name;
      if (access(path.c_str(), R_OK) != 0) {
        tried_ += str("  ", path, ": not there\n");
        continue;
      }
      for (const std::string& first : before) dlopen((folder + '/' + first).c_str(), RTLD_NOW | RTLD_GLOBAL);
      if (open(path)) return;
    }
  for (const std::string& name : names)
    if (open(name)) return;
}

void* VendorLibrary::symbol(const char* name) const {
  void* s = handle_ ? dlsym(handle_, name) : nullptr;
  TG_CHECK(s, DeviceError, path_, ": function ", name, " is missing");
  return s;
}

}  // namespace tg
