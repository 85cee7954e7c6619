// SPDX-License-Identifier: Apache-2.0
// Reads bytes forward and never passes their end.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "error.hpp"

namespace softstair {

using Bytes = std::span<const std::uint8_t>;

// Little-endian numbers at any address.
template <typename T>
T load_little(const std::uint8_t* from) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | static_cast<T>(from[i]) << (8 * i));
  return value;
}

inline std::string_view text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class Cursor {
 public:
  // missing: what it means that bytes are missing, and what they belong to.
  Cursor(Bytes bytes, stair_result missing, std::string what) : bytes_(bytes), missing_(missing), what_(std::move(what)) {}

  std::size_t offset() const { return at_; }
  std::size_t left() const { return bytes_.size() - at_; }
  Bytes whole() const { return bytes_; }

  Bytes take(std::uint64_t count, const char* part) {
    if (count > left())
      fail_with(missing_, "The " + std::string(part) + " at byte " + decimal(at_) + " of " + what_ + " needs " +
                              decimal(count) + " bytes, " + decimal(left()) +
                              " are left; the file is not complete.");
    const Bytes piece = bytes_.subspan(at_, static_cast<std::size_t>(count));
    at_ += piece.size();
    return piece;
  }
  std::uint8_t byte(const char* part) { return take(1, part)[0]; }
  template <typename T>
  T little(const char* part) {
    return load_little<T>(take(sizeof(T), part).data());
  }

 private:
  Bytes bytes_;
  std::size_t at_ = 0;
  stair_result missing_;
  std::string what_;
};

}  // namespace softstair
