// SPDX-License-Identifier: Apache-2.0
// The containers inside a bundle: a ZIP without compression, and safetensors.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cursor.hpp"

namespace softstair {

// Bytes by name, inside the bytes of the whole.
struct Entries {
  std::map<std::string, Bytes, std::less<>> bytes;

  bool has(std::string_view name) const { return bytes.find(name) != bytes.end(); }
  // Throws Error if there is none.
  Bytes at(std::string_view name) const;
};

// Throws Error (STAIR_INVALID_BUNDLE) unless every entry is stored as it is and its checksum holds.
Entries read_zip(Bytes bytes);

struct Array {
  std::string type;  // as safetensors names it
  std::vector<int> sizes;
  Bytes bytes;

  // Throws std::invalid_argument unless it is of this type and has so many dimensions.
  template <typename T>
  std::vector<T> values(const char* of, std::size_t dimensions) const;
};

// Throws std::invalid_argument.
std::map<std::string, Array> read_safetensors(Bytes bytes);

}  // namespace softstair
