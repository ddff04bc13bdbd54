#include "io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace tg::io {
namespace {

class Fd {
 public:
  Fd(const std::string& path, int flags) : path_(path), fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    if (fd_ < 0) failed("open");
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  void close() {
    if (::close(std::exchange(fd_, -1)) != 0) failed("close");
  }
  [[noreturn]] void failed(const char* what) const {
    int e = errno;
    fail<IoError>(what, " failed for '", path_, "': ", std::strerror(e));
  }

 private:
  std::string path_;
  int fd_;
};

void write_all(const Fd& f, const char* p, size_t n) {
  while (n > 0) {
    ssize_t k = ::write(f.get(), p, n);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) f.failed("write");
    p += k;
    n -= size_t(k);
  }
}

}  // namespace

std::string read_file(const std::string& path, size_t limit) {
  Fd f(path, O_RDONLY);
  struct stat st;
  if (::fstat(f.get(), &st) != 0) f.failed("stat");
  TG_CHECK(S_ISREG(st.st_mode), IoError, "read failed for '", path, "': not a regular file");
  TG_CHECK(size_t(st.st_size) <= limit, IoError, "read failed for '", path, "': ", st.st_size, " bytes, allowed ",
           limit);
  std::string data(size_t(st.st_size), '\0');
  size_t have = 0;
  while (have < data.size()) {
    ssize_t k = ::read(f.get(), data.data() + have, data.size() - have);
    if (k < 0 && errno == EINTR) continue;
    if (k < 0) f.failed("read");
    if (k == 0) break;
    have += size_t(k);
  }
  data.resize(have);
  return data;
}

void write_file(const std::string& path, const std::vector<std::pair<const void*, size_t>>& pieces) {
  std::string tmp = path + ".tmp." + std::to_string(::getpid());
  try {
    Fd f(tmp, O_WRONLY | O_CREAT | O_TRUNC);
    for (auto& [p, n] : pieces) write_all(f, static_cast<const char*>(p), n);
    if (::fsync(f.get()) != 0) f.failed("fsync");
    f.close();
    if (::rename(tmp.c_str(), path.c_str()) != 0)
      fail<IoError>("rename failed for '", path, "': ", std::strerror(errno));
  } catch (...) {
    ::unlink(tmp.c_str());
    throw;
  }
  // The rename itself is durable once the directory is.
  size_t slash = path.rfind('/');
  Fd dir(slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash), O_RDONLY | O_DIRECTORY);
  if (::fsync(dir.get()) != 0) dir.failed("fsync");
}

}  // namespace tg::io
