// SPDX-License-Identifier: Apache-2.0
// The layers of the float networks, one implementation for every width of a processor's vectors.
#pragma once

#include <cstddef>

namespace softstair {

// Behind a tensor, and behind each of its rows, kernels may read values of so many positions more.
constexpr int kPositionsBehind = 5;

// All pointers are to position (0, 0); pitches are values from row to row. Inputs have a border of
// zeros of side / 2 positions. What is written may lie where the residual, or the factor, does.
struct Convolution {
  int height, width, side, inputs, outputs;
  int block;  // outputs of a position are a square of so many positions, in the order row, column, channel
  int run;    // outputs / block: those of a row of it
  const float* in;
  std::ptrdiff_t in_pitch;
  float* out;
  std::ptrdiff_t out_pitch;
  const float* weights;   // (panels, side * side * inputs, outputs of a panel)
  const float* bias;      // full panels; or null
  const float* residual;  // what is added, as out; or null
  std::ptrdiff_t residual_pitch;
  float before, after;  // slopes of LeakyReLU before and after the residual; 1: none
};

// out = (in * weights + bias) * factor.
struct DepthwiseConvolution {
  int height, width, side, channels;
  const float* in;
  std::ptrdiff_t in_pitch;
  float* out;
  std::ptrdiff_t out_pitch;
  const float* weights;  // (side * side, channels)
  const float* bias;
  const float* factor;  // as out; or null
  std::ptrdiff_t factor_pitch;
};

struct Kernels {
  int panel;  // outputs that a convolution computes together
  int tiles;  // of 4x4 outputs that `winograd` computes together
  void (*convolution)(const Convolution&);
  // A 3x3 convolution of full panels of inputs and outputs. weights: (6 * 6, panels, inputs, outputs of
  // a panel). scratch: 6 * 6 * tiles * (inputs + outputs) values.
  void (*winograd)(const Convolution&, float* scratch);
  void (*depthwise)(const DepthwiseConvolution&);
};

// The fastest ones of this build that this processor has.
const Kernels& kernels();

extern const Kernels kPortableKernels;
#if defined(SOFTSTAIR_SIMD) && defined(__x86_64__) && defined(__GNUC__)
#define SOFTSTAIR_AVX2_KERNELS 1
extern const Kernels kAvx2Kernels;
#endif

}  // namespace softstair
