// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets share. Checksums are put right, or nothing behind them would be reached.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "checksums.hpp"
#include "softstair.h"

namespace fuzz {

using Data = std::vector<std::uint8_t>;

inline Data read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Data data{std::istreambuf_iterator<char>(file), {}};
  if (data.empty()) std::abort();
  return data;
}

// The small bundle of the golden files: SOFTSTAIR_FUZZ_BUNDLE names it.
inline Data bundle_bytes() {
  const char* path = std::getenv("SOFTSTAIR_FUZZ_BUNDLE");
  return read_file(path == nullptr ? "tests/golden/v1/tiny.stairs" : path);
}

inline stair_bundle* open_bundle() {
  const Data data = bundle_bytes();
  stair_bundle* bundle = nullptr;
  if (stair_bundle_open(data.data(), data.size(), &bundle) != STAIR_OK) std::abort();
  return bundle;
}

// Every failure is one sentence.
inline void expect_sentence(stair_result result) {
  if (result == STAIR_OK) return;
  const char* text = stair_error_text();
  if (text == nullptr || std::strlen(text) < 10 || result == STAIR_INTERNAL) std::abort();
}

inline void decode(const stair_bundle* bundle, const Data& stream) {
  stair_options options = stair_default_options();
  options.max_pixels = 1 << 16;
  options.max_memory = 256 << 20;
  stair_file_info info;
  expect_sentence(stair_info(stream.data(), stream.size(), &info));
  for (options.allow_partial = 0; options.allow_partial < 2; ++options.allow_partial) {
    stair_picture picture{};
    const stair_result result = stair_decode(bundle, stream.data(), stream.size(), &options, &picture);
    expect_sentence(result);
    if (result == STAIR_OK) stair_free(&picture);
  }
}

}  // namespace fuzz
