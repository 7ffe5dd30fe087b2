// What a worker asks about a TorchScript module. No function throws: `error` gets the text of an exception.

#include <cstdio>
#include <exception>

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>

namespace {

// A method may also write attributes of objects that it made itself. Only modules are shared between threads.
bool writes_module(const torch::jit::Block *block) {
  for (const torch::jit::Node *node : block->nodes()) {
    if (node->kind() == c10::prim::SetAttr) {
      const auto type = node->input(0)->type()->cast<c10::ClassType>();
      if (!type || type->is_module()) return true;
    }
    for (const torch::jit::Block *inner : node->blocks())
      if (writes_module(inner)) return true;
  }
  return false;
}

} // namespace

// Whether a method writes attributes of the module or of its parts.
extern "C" bool darkroom_writes_attributes(const torch::jit::Module *module, const char *method, bool *writes, char *error,
                                           size_t error_bytes) noexcept {
  try {
    const auto graph = module->get_method(method).graph()->copy();
    torch::jit::Inline(*graph);
    *writes = writes_module(graph->block());
    return true;
  } catch (const std::exception &exception) {
    std::snprintf(error, error_bytes, "%s", exception.what());
    return false;
  }
}

// Copies a module: the attributes are those of the copy, and the tensors in them are shared. Returns null if it fails.
extern "C" torch::jit::Module *darkroom_copy(const torch::jit::Module *module, char *error, size_t error_bytes) noexcept {
  try {
    return new torch::jit::Module(module->clone());
  } catch (const std::exception &exception) {
    std::snprintf(error, error_bytes, "%s", exception.what());
    return nullptr;
  }
}
