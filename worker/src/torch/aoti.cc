// AOTInductor packages: models that `torch.export` described and a C++ compiler compiled. No function throws: `error` gets the
// text of an exception.
//
// libtorch's own loader of packages is not used. It unpacks to /tmp, runs a compiler if the package has only sources, and a
// killed process leaves its files.

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <dlfcn.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/inductor/aoti_runner/model_container_runner.h>
#include <torch/headeronly/version.h>

namespace {
using Runner = torch::inductor::AOTIModelContainerRunner;

constexpr size_t UNPACKED_BYTES_MAX = size_t(16) << 30;
constexpr size_t CHUNK_BYTES = size_t(1) << 20;

void write_error(const std::exception &exception, char *error, size_t error_bytes) {
  std::strncpy(error, exception.what(), error_bytes - 1);
  error[error_bytes - 1] = '\0';
}

void unpack(caffe2::serialize::PyTorchStreamReader &package, const std::string &record, const std::string &path) {
  std::unique_ptr<FILE, int (*)(FILE *)> file(std::fopen(path.c_str(), "wb"), std::fclose);
  if (!file) throw std::runtime_error("cannot write " + path + ": " + std::strerror(errno));
  size_t rest = package.getRecordSize(record);
  auto chunks = package.createChunkReaderIter(record, rest, CHUNK_BYTES);
  std::vector<char> chunk(CHUNK_BYTES);
  while (rest > 0) {
    const size_t bytes = chunks.next(chunk.data());
    if (bytes == 0 || bytes > rest) throw std::runtime_error("the package is damaged at " + record);
    if (std::fwrite(chunk.data(), 1, bytes, file.get()) != bytes)
      throw std::runtime_error("cannot write " + path + ": " + std::strerror(errno));
    rest -= bytes;
  }
  if (std::fflush(file.get()) != 0) throw std::runtime_error("cannot write " + path + ": " + std::strerror(errno));
}
} // namespace

// Unpacks the records under `prefix` and the record `about` into `folder`, each by the last part of its name.
extern "C" bool darkroom_unpack_package(const char *path, const char *prefix, const char *about, const char *folder,
                                        char *error, size_t error_bytes) noexcept {
  try {
    caffe2::serialize::PyTorchStreamReader package{std::string(path)};
    const std::string wanted(prefix);
    size_t bytes = 0;
    for (const std::string &record : package.getAllRecords()) {
      const bool is_of_model = record.compare(0, wanted.size(), wanted) == 0;
      if (!is_of_model && record != about) continue;
      const std::string name = record.substr(record.rfind('/') + 1);
      if (name.empty() || name.front() == '.') continue;
      bytes += package.getRecordSize(record);
      if (bytes > UNPACKED_BYTES_MAX) throw std::runtime_error("the package unpacks to more than 16 GiB");
      unpack(package, record, std::string(folder) + "/" + name);
    }
    return true;
  } catch (const std::exception &exception) {
    write_error(exception, error, error_bytes);
    return false;
  }
}

// Loads a compiled library for `runners` passes at the same time. Returns null if that fails.
extern "C" void *darkroom_load_package(const char *library, const char *kind, const char *device, const char *folder, size_t runners,
                                       char *error, size_t error_bytes) noexcept {
  try {
    // A device registers itself when its part of libtorch is loaded.
    auto &known = torch::inductor::getAOTIModelRunnerRegistry();
    const auto create = known.find(kind);
    if (create == known.end()) throw std::runtime_error(std::string("this libtorch runs no packages on ") + kind);
    return create->second(library, runners, device, folder, false).release();
  } catch (const std::exception &exception) {
    write_error(exception, error, error_bytes);
    return nullptr;
  }
}

extern "C" void darkroom_free_package(void *runner) noexcept {
  try {
    delete static_cast<Runner *>(runner);
  } catch (const std::exception &) {
    // A GPU that failed can fail here again. The process is about to end then.
  }
}

// Runs one pass. The compiled code trusts the strides of its input: they must be those of channels-last storage.
extern "C" at::Tensor *darkroom_run_package(void *runner, const at::Tensor *input, char *error, size_t error_bytes) noexcept {
  try {
    const at::NoGradGuard no_grad;
    auto outputs = static_cast<Runner *>(runner)->run({input->contiguous(at::MemoryFormat::ChannelsLast)});
    if (outputs.size() != 1)
      throw std::runtime_error("the package gives " + std::to_string(outputs.size()) + " tensors instead of one");
    return new at::Tensor(std::move(outputs.front()));
  } catch (const std::exception &exception) {
    write_error(exception, error, error_bytes);
    return nullptr;
  }
}

// `2.11.0`.
extern "C" const char *darkroom_libtorch_version() noexcept {
  return C10_STRINGIZE(TORCH_VERSION_MAJOR) "." C10_STRINGIZE(TORCH_VERSION_MINOR) "." C10_STRINGIZE(TORCH_VERSION_PATCH);
}

// The compute capability of a GPU: 90 for 9.0. 0 if the driver does not tell.
extern "C" int darkroom_compute_capability(int gpu) noexcept {
  constexpr int MAJOR = 75, MINOR = 76; // of the enumeration CUdevice_attribute
  void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL); // libtorch has loaded it, so this only counts
  if (!driver) return 0;
  const auto get = reinterpret_cast<int (*)(int *, int)>(dlsym(driver, "cuDeviceGet"));
  const auto attribute = reinterpret_cast<int (*)(int *, int, int)>(dlsym(driver, "cuDeviceGetAttribute"));
  int device = 0, major = 0, minor = 0;
  const bool is_known = get && attribute && get(&device, gpu) == 0 && attribute(&major, MAJOR, device) == 0 &&
                        attribute(&minor, MINOR, device) == 0;
  return is_known ? major * 10 + minor : 0;
}
