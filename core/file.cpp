#include "core/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/error.h"

namespace tg::io {

int FileSystem::open(const char* path, int flags) { return ::open(path, flags | O_CLOEXEC, 0644); }
int64_t FileSystem::size(int fd, bool& regular) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return -1;
  regular = S_ISREG(st.st_mode);
  return st.st_size;
}
ssize_t FileSystem::read(int fd, void* to, size_t n) { return ::read(fd, to, n); }
ssize_t FileSystem::write(int fd, const void* from, size_t n) { return ::write(fd, from, n); }
int FileSystem::fsync(int fd) { return ::fsync(fd); }
int FileSystem::close(int fd) { return ::close(fd); }
int FileSystem::rename(const char* from, const char* to) { return ::rename(from, to); }
int FileSystem::unlink(const char* path) { return ::unlink(path); }
int FileSystem::mkdir(const char* path) { return ::mkdir(path, 0777); }

namespace {

FileSystem the_system;
std::atomic<FileSystem*> files_in_use{&the_system};

[[noreturn]] void io_failed(const char* what, const std::string& path) {
  int e = errno;
  fail<IoError>(what, " failed for '", path, "': ", std::strerror(e));
}

// A call that a signal interrupted is made again.
template <class F>
auto retried(F&& f) {
  for (;;)
    if (auto r = f(); r >= 0 || errno != EINTR) return r;
}

// Renaming over a device or a pipe would put a file in its place.
void check_replaceable(const std::string& path) {
  struct stat st;
  TG_CHECK(::stat(path.c_str(), &st) != 0 || S_ISREG(st.st_mode), IoError, "write failed for '", path,
           "': it exists and is not a regular file");
}

// Where a path leads: a symbolic link stays, and the file it names is replaced.
std::string behind_links(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;  // what cannot be looked at is told by the open that follows
  fs::path at = path;
  for (int links = 0; fs::is_symlink(fs::symlink_status(at, ignored)); ++links) {
    if (links == 40) {
      errno = ELOOP;
      io_failed("open", path);
    }
    at = at.parent_path() / fs::read_symlink(at, ignored);
  }
  return at.string();
}

// Makes what was created, renamed or removed there last.
void flush_folder_of(const std::string& path) {
  size_t slash = path.find_last_not_of('/');
  slash = slash == path.npos ? slash : path.rfind('/', slash);
  OutputFile dir(slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash), O_RDONLY | O_DIRECTORY);
  dir.flush();
}

}  // namespace

FileSystem& file_system() { return *files_in_use; }
void set_file_system(FileSystem* files) { files_in_use = files ? files : &the_system; }

OutputFile::OutputFile(const std::string& path, int flags)
    : path_(path), fd_(retried([&] { return file_system().open(path.c_str(), flags); })) {
  if (fd_ < 0) io_failed("open", path_);
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) file_system().close(fd_);
}

void OutputFile::write(const void* from, size_t n) {
  TG_CHECK(fd_ >= 0, IoError, "write failed for '", path_, "': the file is closed");
  for (const char* p = static_cast<const char*>(from); n > 0;) {
    errno = ENOSPC;  // what a write of nothing means
    ssize_t k = retried([&] { return file_system().write(fd_, p, std::min(n, size_t(1) << 30)); });
    if (k <= 0) io_failed("write", path_);
    p += k;
    n -= size_t(k);
  }
}

// After a failing fsync the data may be gone and a second one may still succeed: it is not tried again.
void OutputFile::flush() {
  if (retried([&] { return file_system().fsync(fd_); }) != 0) io_failed("fsync", path_);
}

void OutputFile::close() {
  if (fd_ >= 0 && file_system().close(std::exchange(fd_, -1)) != 0 && errno != EINTR) io_failed("close", path_);
}

InputFile::InputFile(const std::string& path)
    : path_(path), fd_(retried([&] { return file_system().open(path.c_str(), O_RDONLY | O_NONBLOCK); })) {
  if (fd_ < 0) io_failed("open", path_);
  bool regular = false;
  int64_t n = file_system().size(fd_, regular);
  int e = errno;
  if (n >= 0 && regular) {
    size_ = size_t(n);
    return;
  }
  file_system().close(fd_);
  errno = e;
  if (n < 0) io_failed("stat", path_);
  fail<IoError>("read failed for '", path, "': not a regular file");
}

InputFile::~InputFile() { file_system().close(fd_); }

void InputFile::read(void* to, size_t n) {
  for (char* p = static_cast<char*>(to); n > 0;) {
    ssize_t k = retried([&] { return file_system().read(fd_, p, std::min(n, size_t(1) << 30)); });
    if (k < 0) io_failed("read", path_);
    TG_CHECK(k > 0, IoError, "read failed for '", path_, "': it ends ", n, " bytes early");
    p += k;
    n -= size_t(k);
  }
}

std::string read_file(const std::string& path, size_t most) {
  InputFile f(path);
  std::string data(std::min(f.size(), most), '\0');
  f.read(data.data(), data.size());
  return data;
}

void write_file(const std::string& given, const std::vector<std::pair<const void*, size_t>>& pieces) {
  static std::atomic<int> counter{0};  // two threads may write the same path
  const std::string path = behind_links(given);
  check_replaceable(path);
  std::string tmp = path + ".tmp." + std::to_string(::getpid()) + "." + std::to_string(counter++);
  FileSystem& files = file_system();
  try {
    OutputFile f(tmp, O_WRONLY | O_CREAT | O_TRUNC);
    for (auto& [p, n] : pieces) f.write(p, n);
    f.flush();
    f.close();
    if (files.rename(tmp.c_str(), path.c_str()) != 0) io_failed("rename", path);
  } catch (...) {
    files.unlink(tmp.c_str());
    throw;
  }
  flush_folder_of(path);
}

void make_folders(const std::string& path) {
  for (size_t end = 0; end != path.npos;) {
    end = path.find('/', end + 1);
    std::string part = path.substr(0, end);
    if (file_system().mkdir(part.c_str()) == 0) {
      flush_folder_of(part);
      continue;
    }
    int e = errno;  // above the folder there may be ones that exist and cannot be written to
    struct stat st;
    if (e == EEXIST || (::stat(part.c_str(), &st) == 0 && S_ISDIR(st.st_mode))) continue;
    errno = e;
    io_failed("mkdir", part);
  }
}

void remove_file(const std::string& path) {
  if (file_system().unlink(path.c_str()) != 0) io_failed("unlink", path);
}

}  // namespace tg::io
