// The operators of torchvision that scripted models call. `register.cc` names them to libtorch.
//
// `*_on_cpu` wants all tensors on the CPU. `*_anywhere` runs on every device, and takes and returns tensors of that device.

#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace darkroom {

// Non-maximum suppression: the indices of the boxes that stay, the highest score first. Of two boxes that share more than
// `iou_max` of their union, the one with the lower score goes. Of equal scores, the first one stays.
//
// - boxes: [n, 4], the corners x1, y1, x2, y2
// - scores: [n]
at::Tensor nms_on_cpu(const at::Tensor &boxes, const at::Tensor &scores, double iou_max);
at::Tensor nms_anywhere(const at::Tensor &boxes, const at::Tensor &scores, double iou_max);

// RoIAlign of Mask R-CNN (He et al., 2017): the mean of bilinear samples in each bin of each region, [k, channels, rows, columns].
//
// - maps: [n, channels, height, width]
// - regions: [k, 5], the index of the map and the corners x1, y1, x2, y2; times `scale` they are pixels of the map
// - samples: for each side of a bin; one for each pixel of the side if it is 0 or less
// - aligned: pixel centers are at 0.5. Otherwise they are at 0, and a region is at least one pixel wide
at::Tensor roi_align_on_cpu(const at::Tensor &maps, const at::Tensor &regions, double scale, int64_t rows, int64_t columns,
                            int64_t samples, bool aligned);
at::Tensor roi_align_anywhere(const at::Tensor &maps, const at::Tensor &regions, double scale, int64_t rows, int64_t columns,
                              int64_t samples, bool aligned);

// Deformable convolution (Dai et al., 2017), with the mask of its second version (Zhu et al., 2018) if `use_mask`.
//
// - input: [n, channels, height, width]
// - weight: [out channels, channels / groups, kernel height, kernel width]
// - offset: [n, 2 × offset groups × kernel positions, out height, out width]: down and right, in pixels, by turns
// - mask: [n, offset groups × kernel positions, out height, out width]
// - bias: [out channels]
at::Tensor deform_conv2d_on_cpu(const at::Tensor &input, const at::Tensor &weight, const at::Tensor &offset,
                                const at::Tensor &mask, const at::Tensor &bias, int64_t stride_y, int64_t stride_x,
                                int64_t pad_y, int64_t pad_x, int64_t dilation_y, int64_t dilation_x, int64_t groups,
                                int64_t offset_groups, bool use_mask);
at::Tensor deform_conv2d_anywhere(const at::Tensor &input, const at::Tensor &weight, const at::Tensor &offset,
                                  const at::Tensor &mask, const at::Tensor &bias, int64_t stride_y, int64_t stride_x,
                                  int64_t pad_y, int64_t pad_x, int64_t dilation_y, int64_t dilation_x, int64_t groups,
                                  int64_t offset_groups, bool use_mask);

// The type in which an operator computes: sums in 16 bits are not exact enough.
inline at::ScalarType computed_in(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

} // namespace darkroom
