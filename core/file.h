// Files, read and written atomically. Every file operation of the framework goes through the FileSystem here.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "core/api.h"

namespace tg::io {

// The system calls that reading and writing need, with their results and errno. Tests put a double in place that fails
// or records them (io/file_faults.h).
class TG_API FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual int open(const char* path, int flags);
  // Size in bytes, or -1. `regular` says whether it is a file rather than a device, pipe or folder.
  virtual int64_t size(int fd, bool& regular);
  virtual ssize_t read(int fd, void* to, size_t n);
  virtual ssize_t write(int fd, const void* from, size_t n);
  virtual int fsync(int fd);
  virtual int close(int fd);
  virtual int rename(const char* from, const char* to);
  virtual int unlink(const char* path);
  virtual int mkdir(const char* path);
};

// The one in use. Replacing it (nullptr: the system's) is for tests; it must outlive its use.
TG_API FileSystem& file_system();
TG_API void set_file_system(FileSystem* files);

// A regular file read from start to end. IoError naming path and reason.
class TG_API InputFile {
 public:
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  size_t size() const { return size_; }
  // Exactly n bytes more; IoError if the file ends before.
  void read(void* to, size_t n);

 private:
  std::string path_;
  int fd_;
  size_t size_ = 0;
};

// A file written piece by piece where it stands: what is lost with a crash is its end. For logs and for data that lives
// no longer than the program; write_file is for what has to be whole. IoError naming path and reason.
class TG_API OutputFile {
 public:
  OutputFile(const std::string& path, int flags);  // of open(2)
  // Closing loses nothing that was flushed before, so its result is not looked at, except in close().
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  void write(const void* from, size_t n);
  void flush();  // to the disk
  void close();

 private:
  std::string path_;
  int fd_;
};

// The whole file, or its first `most` bytes.
TG_API std::string read_file(const std::string& path, size_t most = size_t(-1));

// Writes the pieces one after another: to a temporary file beside `path`, flushed to disk, then renamed over it, so
// that a reader (or a crash) sees the old file or the new one, never a mixture; at the end the folder is flushed, so
// that the new one stays. Where `path` is a symbolic link, all that happens to the file it leads to. IoError; the old
// file stays on failure.
TG_API void write_file(const std::string& path, const std::vector<std::pair<const void*, size_t>>& pieces);

// Makes a folder and those above it, flushed to disk, unless they exist. IoError.
TG_API void make_folders(const std::string& path);

// Removes a file; IoError.
TG_API void remove_file(const std::string& path);

}  // namespace tg::io
