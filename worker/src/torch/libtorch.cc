// Functions of libtorch that `tch` does not offer. No function throws: `error` gets the text of an exception.

#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/jit/api/module.h>

namespace {
void write_error(const std::exception &exception, char *error, size_t error_bytes) {
  std::strncpy(error, exception.what(), error_bytes - 1);
  error[error_bytes - 1] = '\0';
}
} // namespace

// Makes the weights constants, laid out as the convolutions of the device want them. On a CPU by
// `torch.jit.optimize_for_inference`; on a GPU in channels-last storage, like the images. Replaces the module in place.
extern "C" bool darkroom_optimize(torch::jit::Module *module, const char *method, bool on_gpu, char *error, size_t error_bytes) noexcept {
  try {
    std::vector<std::string> methods;
    if (std::strcmp(method, "forward") != 0) methods.emplace_back(method);
    if (on_gpu) {
      at::NoGradGuard no_grad;
      for (at::Tensor weights : module->parameters())
        if (weights.dim() == 4) weights.set_data(weights.contiguous(at::MemoryFormat::ChannelsLast));
    }
    auto frozen = torch::jit::freeze(*module, methods);
    *module = on_gpu ? frozen : torch::jit::optimize_for_inference(frozen, methods);
    return true;
  } catch (const std::exception &exception) {
    write_error(exception, error, error_bytes);
    return false;
  }
}

// Gives the calling thread stream `number` of a GPU. A stream lives as long as the process.
extern "C" bool darkroom_use_stream(int gpu, size_t number, char *error, size_t error_bytes) noexcept {
  try {
    static std::mutex guard;
    static std::map<std::pair<int, size_t>, c10::Stream> streams;
    const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(gpu));
    const c10::impl::VirtualGuardImpl cuda(device.type());
    cuda.setDevice(device);
    const std::lock_guard<std::mutex> guarded(guard);
    auto stream = streams.find({gpu, number});
    if (stream == streams.end()) {
      stream = streams.emplace(std::pair(gpu, number), cuda.getStreamFromGlobalPool(device)).first;
    }
    cuda.exchangeStream(stream->second);
    return true;
  } catch (const std::exception &exception) {
    write_error(exception, error, error_bytes);
    return false;
  }
}

// Allocates pinned memory of the host, `u8[bytes]`: a GPU reads it by itself. Returns null if there is none.
extern "C" at::Tensor *darkroom_pinned(int64_t bytes, char *error, size_t error_bytes) noexcept {
  try {
    return new at::Tensor(at::empty({bytes}, at::TensorOptions().dtype(at::kByte).pinned_memory(true)));
  } catch (const std::exception &exception) {
    write_error(exception, error, error_bytes);
    return nullptr;
  }
}
