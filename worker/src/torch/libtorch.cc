// Functions of libtorch that `tch` does not offer. No function throws: `error` gets the text of an exception.

#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>

namespace {
void write_text(const char *from, char *text, size_t text_bytes) {
  std::strncpy(text, from, text_bytes - 1);
  text[text_bytes - 1] = '\0';
}

void write_error(const std::exception &exception, char *error, size_t error_bytes) {
  write_text(exception.what(), error, error_bytes);
}

// The constant that a node has as its argument `name`, or none.
c10::IValue constant_argument(const torch::jit::Node &node, const char *name) {
  const auto index = node.schema().argumentIndexWithName(name);
  return index ? torch::jit::toIValue(node.input(*index)).value_or(c10::IValue()) : c10::IValue();
}

bool is_true(const c10::IValue &value) { return value.isBool() && value.toBool(); }

// Whether a node works as in training whatever mode its module is in: a batch norm, or a dropout that drops something.
bool is_in_training(const torch::jit::Node &node) {
  if (node.maybeSchema() == nullptr) return false;
  const auto attention_dropout = constant_argument(node, "dropout_p");
  if (attention_dropout.isDouble() && attention_dropout.toDouble() > 0) return true;
  if (!is_true(constant_argument(node, "training")) && !is_true(constant_argument(node, "train"))) return false;
  for (const char *name : {"p", "dropout"}) {
    const auto dropped = constant_argument(node, name);
    if (dropped.isDouble() && dropped.toDouble() == 0) return false;
  }
  // A batch norm without running statistics uses those of its input in evaluation mode too.
  const auto statistics = node.schema().argumentIndexWithName("running_mean");
  return !statistics || !node.input(*statistics)->mustBeNone();
}

// The first operator of a block that works as in training, or an empty text.
std::string training_operator(const torch::jit::Block &block) {
  for (const torch::jit::Node *node : block.nodes()) {
    if (is_in_training(*node)) return node->kind().toUnqualString();
    for (const torch::jit::Block *inner : node->blocks()) {
      auto found = training_operator(*inner);
      if (!found.empty()) return found;
    }
  }
  return {};
}
} // namespace

// Casts the floating-point parameters and buffers to `type`, a number of `c10::ScalarType`, as `module.half()` of Python does.
// All other tensors keep their type: indices, masks, tables of bytes, complex numbers.
extern "C" bool darkroom_cast_floats(torch::jit::Module *module, int type, char *error, size_t error_bytes) noexcept {
  try {
    const at::NoGradGuard no_grad;
    const auto cast = [type](at::Tensor tensor) {
      if (tensor.defined() && at::isFloatingType(tensor.scalar_type()))
        tensor.set_data(tensor.to(static_cast<at::ScalarType>(type)));
    };
    for (const at::Tensor &parameter : module->parameters()) cast(parameter);
    for (const at::Tensor &buffer : module->buffers()) cast(buffer);
    return true;
  } catch (const std::exception &exception) {
    write_error(exception, error, error_bytes);
    return false;
  }
}

// Writes the name of an operator of `method` that works as in training although the module is in evaluation mode: the module was
// traced in training mode. Writes an empty name if there is none.
extern "C" bool darkroom_training_operator(const torch::jit::Module *module, const char *method, char *name, size_t name_bytes,
                                           char *error, size_t error_bytes) noexcept {
  try {
    const auto graph = module->get_method(method).graph()->copy();
    torch::jit::Inline(*graph);
    write_text(training_operator(*graph->block()).c_str(), name, name_bytes);
    return true;
  } catch (const std::exception &exception) {
    write_error(exception, error, error_bytes);
    return false;
  }
}

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

// Bytes of the tensors that a GPU holds now. Writes nothing on an error.
extern "C" bool darkroom_gpu_bytes(int gpu, int64_t *bytes, char *error, size_t error_bytes) noexcept {
  try {
    const auto stats = c10::getDeviceAllocator(c10::DeviceType::CUDA)->getDeviceStats(static_cast<c10::DeviceIndex>(gpu));
    *bytes = stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].current;
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
