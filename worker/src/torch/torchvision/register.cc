// Names the operators to libtorch as `torchvision::…`, with the schemas of torchvision: a TorchScript file contains calls by
// name, and libtorch refuses to load a file that calls an operator without a name.

#include <cstdio>
#include <exception>
#include <optional>

#include <torch/library.h>

#include "operators.h"

namespace {

constexpr const char *NMS = "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor";
constexpr const char *ROI_ALIGN =
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor";
constexpr const char *DEFORM_CONV2D =
    "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, SymInt stride_w, "
    "SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask) "
    "-> Tensor";

torch::Library &define(const char *name_space) {
  // Never freed: inference threads may still run an operator while the process ends.
  auto *library = new torch::Library(torch::Library::DEF, name_space, std::nullopt, __FILE__, __LINE__);
  for (const char *schema : {NMS, ROI_ALIGN, DEFORM_CONV2D}) library->def(schema);
  const auto anywhere = c10::DispatchKey::CompositeExplicitAutograd;
  library->impl("nms", torch::dispatch(anywhere, TORCH_FN(darkroom::nms_anywhere)));
  library->impl("roi_align", torch::dispatch(anywhere, TORCH_FN(darkroom::roi_align_anywhere)));
  library->impl("deform_conv2d", torch::dispatch(anywhere, TORCH_FN(darkroom::deform_conv2d_anywhere)));
  return *library;
}

bool register_all() {
  torch::Library &torchvision = define("torchvision");
  const auto cpu = c10::DispatchKey::CPU;
  torchvision.impl("nms", torch::dispatch(cpu, TORCH_FN(darkroom::nms_on_cpu)));
  torchvision.impl("roi_align", torch::dispatch(cpu, TORCH_FN(darkroom::roi_align_on_cpu)));
  torchvision.impl("deform_conv2d", torch::dispatch(cpu, TORCH_FN(darkroom::deform_conv2d_on_cpu)));
  // What a GPU runs, under a name by which a test can run it on a CPU.
  define("darkroom");
  return true;
}

} // namespace

// Registers the operators; later calls do nothing. Throws nothing: `error` gets the text of an exception.
extern "C" bool darkroom_register_torchvision(char *error, size_t error_bytes) noexcept {
  try {
    static const bool is_registered = register_all();
    return is_registered;
  } catch (const std::exception &exception) {
    std::snprintf(error, error_bytes, "%s", exception.what());
    return false;
  }
}
