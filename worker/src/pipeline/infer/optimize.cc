// The one thing of libtorch that we need and `tch` has no name for.

#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include <torch/csrc/jit/api/module.h>

// Makes the weights constants, laid out as this CPU's convolutions want them, and lets layers hand on what they have laid out:
// `torch.jit.optimize_for_inference`. The module is replaced in place; false and the reason if it cannot be.
extern "C" bool darkroom_optimize(torch::jit::Module *module, const char *method, char *why, size_t why_bytes) noexcept {
  try {
    std::vector<std::string> methods;
    if (std::strcmp(method, "forward") != 0) methods.emplace_back(method);
    auto frozen = torch::jit::freeze(*module, methods);
    *module = torch::jit::optimize_for_inference(frozen, methods);
    return true;
  } catch (const std::exception &error) {
    std::strncpy(why, error.what(), why_bytes - 1);
    why[why_bytes - 1] = '\0';
    return false;
  }
}
