// SPDX-License-Identifier: Apache-2.0
// Patches of a network's output, put where they lie on a plane of more places.
#pragma once

#include <cstddef>

namespace softstair {

// Places of height x width of a larger array, channels last. row: distance of rows in values.
struct Patches {
  const float* first;
  std::ptrdiff_t row;
  int height, width;
};

// Channels (row, column, channel) of every place become factor x factor places of a plane, whose rows are `row`
// values apart; they replace what is there, or are added to it.
void spread(const Patches& patches, int factor, int channels, bool adds, float* plane, std::ptrdiff_t row);

}  // namespace softstair
