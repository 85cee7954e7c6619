// SPDX-License-Identifier: Apache-2.0
// Vectors of eight floats and fused multiply-add; compiled for processors that have them.
#include "kernels.hpp"

#ifdef SOFTSTAIR_AVX2_KERNELS
#define SOFTSTAIR_LANES 8
#define SOFTSTAIR_ROWS 6
#include "kernels.inl"

namespace softstair {

const Kernels kAvx2Kernels = {kPanel, kTiles, convolution, winograd, depthwise};

}  // namespace softstair
#endif
