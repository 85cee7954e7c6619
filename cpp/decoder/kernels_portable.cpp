// SPDX-License-Identifier: Apache-2.0
// Vectors of four floats, which every processor and WebAssembly have. Browsers keep sums of four positions
// in registers, not of six.
#define SOFTSTAIR_LANES 4
#define SOFTSTAIR_ROWS 4
#include "kernels.inl"

namespace softstair {

const Kernels kPortableKernels = {kPanel, kTiles, convolution, winograd, depthwise};

const Kernels& kernels() {
#ifdef SOFTSTAIR_AVX2_KERNELS
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kAvx2Kernels;
#endif
  return kPortableKernels;
}

}  // namespace softstair
