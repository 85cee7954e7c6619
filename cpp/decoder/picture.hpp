// SPDX-License-Identifier: Apache-2.0
// From a stream to pixels: tiles to latents, and these window by window to a picture.
#pragma once

#include <cstdlib>
#include <functional>
#include <memory>

#include "bundle.hpp"
#include "stream.hpp"

namespace softstair {

struct View {
  std::optional<Box> region;  // pixels; by default the whole picture
  int divisor = 1;
  bool partial = false;  // what there is of a file that ends early or is damaged, and grey elsewhere
};

struct Limits {
  std::uint64_t max_memory;
};

// damage: with View::partial, a sentence on what is missing; empty if nothing is. pixels: memory that free() gives back, so that C programs can.
struct Picture {
  struct Free {
    void operator()(std::uint8_t* memory) const { std::free(memory); }
  };
  int width = 0, height = 0, channels = 0;
  std::unique_ptr<std::uint8_t, Free> pixels;
  std::string damage;
};

// bundle: may be null if the stream needs none. channels: 0 as in the stream, or 4. progress: given
// what is done, 0 to 1; true stops. Throws Error.
Picture decode(const Bundle* bundle, const Stream& stream, const View& view, int channels, const Limits& limits,
               const std::function<bool(double)>& progress);

// SHA-256 over z and y of all tiles that have a learned part, int16 little-endian.
std::array<std::uint8_t, 32> symbol_hash(const Bundle* bundle, const Stream& stream);

}  // namespace softstair
