// A double of the file system for tests: records what is done, and fails where it is told to.
#pragma once
#include <cerrno>
#include <map>
#include <mutex>

#include "core/file.h"

namespace tg::io {

class FaultyFiles : public FileSystem {
 public:
  // Error: the at-th operation (from 1) fails with `error`. Short: it reads or writes half. Stop: it and all later ones
  // are not done, as if the process had been killed before it.
  enum class Mode { Error, Short, Stop };
  struct Event {
    std::string op, path, data;  // data: what was written, or the new name
  };
  FaultyFiles(int64_t at, int error, Mode mode) : at_(at), error_(error), mode_(mode) {}

  int open(const char* path, int flags) override {
    if (fails()) return -1;
    int fd = FileSystem::open(path, flags);
    std::lock_guard lock(mutex_);
    if (fd >= 0) paths_[fd] = path;
    record("open", path, std::to_string(flags));
    return fd;
  }
  int64_t size(int fd, bool& regular) override {
    if (fails()) return -1;
    note("size", fd);
    return FileSystem::size(fd, regular);
  }
  ssize_t read(int fd, void* to, size_t n) override {
    if (fails()) return -1;
    note("read", fd);
    return FileSystem::read(fd, to, halved(n));
  }
  ssize_t write(int fd, const void* from, size_t n) override {
    if (fails()) return -1;
    ssize_t k = FileSystem::write(fd, from, halved(n));
    if (k > 0) note("write", fd, std::string(static_cast<const char*>(from), size_t(k)));
    return k;
  }
  int fsync(int fd) override {
    if (fails()) return -1;
    note("fsync", fd);
    return FileSystem::fsync(fd);
  }
  // The descriptor is given back in any case, as the system does.
  int close(int fd) override {
    bool failed = fails();
    note("close", fd);
    int r = FileSystem::close(fd);
    if (failed) errno = error_;
    return failed ? -1 : r;
  }
  int rename(const char* from, const char* to) override {
    if (fails()) return -1;
    note("rename", from, to);
    return FileSystem::rename(from, to);
  }
  int unlink(const char* path) override {
    if (fails()) return -1;
    note("unlink", path);
    return FileSystem::unlink(path);
  }
  int mkdir(const char* path) override {
    if (fails()) return -1;
    int r = FileSystem::mkdir(path);
    int e = errno;
    if (r == 0) note("mkdir", path);
    errno = e;
    return r;
  }
  int64_t count() const { return count_; }
  const std::vector<Event>& journal() const { return journal_; }

 private:
  bool fails() {
    std::lock_guard lock(mutex_);
    ++count_;
    bool now = mode_ == Mode::Stop ? at_ > 0 && count_ >= at_ : mode_ == Mode::Error && count_ == at_;
    if (now) errno = error_;
    return now;
  }
  size_t halved(size_t n) const { return mode_ == Mode::Short && count_ == at_ && n > 1 ? n / 2 : n; }
  void record(const char* op, const std::string& path, std::string data) {
    journal_.push_back({op, path, std::move(data)});
  }
  void note(const char* op, const char* path, std::string data = "") {
    std::lock_guard lock(mutex_);
    record(op, path, std::move(data));
  }
  void note(const char* op, int fd, std::string data = "") {
    std::lock_guard lock(mutex_);
    record(op, paths_[fd], std::move(data));
  }

  std::mutex mutex_;
  int64_t at_, count_ = 0;
  int error_;
  Mode mode_;
  std::map<int, std::string> paths_;
  std::vector<Event> journal_;
};

}  // namespace tg::io
